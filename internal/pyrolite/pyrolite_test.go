//go:build java

package pyrolite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// patience bounds every wait for another program.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Peer is the object that Client.java calls.
type Peer struct {
	Greeting string

	self core.URI

	mu   sync.Mutex // protects note
	note string
}

type person struct {
	Name string
	Age  int
}

func (p *Peer) Add(a, b int) int { return a + b }

func (p *Peer) Echo(value any) any { return value }

// Describe says what came of a value.
func (p *Peer) Describe(value any) string {
	switch value := value.(type) {
	case nil:
		return "nil"
	case core.ProxyState:
		return fmt.Sprintf("%T %v", value, value.URI)
	}
	return fmt.Sprintf("%T %v", value, value)
}

// Size takes bytes, which come as a dict with base64.
func (p *Peer) Size(data []byte) int { return len(data) }

// Value returns a value of a kind.
func (p *Peer) Value(kind string) (any, error) {
	switch kind {
	case "nil":
		return nil, nil
	case "bool":
		return true, nil
	case "int":
		return 42, nil
	case "int64":
		return int64(math.MaxInt64), nil
	case "big":
		return new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 70)), nil
	case "float":
		return 0.1, nil
	case "whole":
		return 3.0, nil
	case "inf":
		return math.Inf(1), nil
	case "complex":
		return 1 - 2i, nil
	case "string":
		return "hé € 😀 '\" \\ \n", nil
	case "bytes":
		return []byte{0, 1, 255}, nil
	case "list":
		return []any{1, []string{"x"}}, nil
	case "tuple":
		return core.Tuple{1, "x"}, nil
	case "set":
		return core.Set{"a", "b"}, nil
	case "map":
		return map[string]int{"k": 1}, nil
	case "struct":
		return person{"Irmen", 50}, nil
	case "uri":
		return core.ParseURI("PYRO:o@h:1")
	case "proxy":
		return core.ProxyState{URI: p.self, Methods: []string{"add"}, Handshake: "hello"}, nil
	case "exception":
		return core.ValueError.New("oops"), nil
	}
	return nil, core.ValueError.New("no value of the kind %q", kind)
}

func (p *Peer) Fail(class, text string) error {
	if class == "" {
		return errors.New(text)
	}
	return core.ExceptionClass(class).New("%s", text)
}

func (p *Peer) Panics() { panic("oops") }

// Note is oneway; Noted waits for it.
func (p *Peer) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = text
}

func (p *Peer) Noted(ctx context.Context) (string, error) {
	for ctx.Err() == nil {
		if text := p.take(); text != "" {
			return text, nil
		}
	}
	return "", context.Cause(ctx)
}

func (p *Peer) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.note
	p.note = ""
	return text
}

func (p *Peer) Annotated(ctx context.Context) string {
	call := core.CallInfoFrom(ctx)
	core.AnnotateReply(ctx, "GGGO", []byte("from Go"))
	return fmt.Sprintf("%s %x", call.Annotations["JAVA"], call.CorrelationID)
}

// serve serves the peer until the test ends, and registers it.
func serve(t *testing.T, ctx context.Context, nodes []string) {
	t.Helper()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{
		ValidateHandshake: func(_ context.Context, handshake any) (any, error) {
			if handshake != "hello" {
				return nil, errors.New("no strangers")
			}
			return "hello", nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(context.Background()) }()
	t.Cleanup(func() {
		d.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	uri, err := d.Register("java", &Peer{Greeting: "hello", self: d.URI("java")}, core.ObjectOptions{Oneway: []string{"note"}})
	if err != nil {
		t.Fatal(err)
	}
	names, err := naming.NewClient(nodes, naming.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	if err := names.Register(ctx, "example.java", uri, naming.RegisterOptions{Tags: []string{"lang:go"}}); err != nil {
		t.Fatal(err)
	}
}

// TestPyrolite runs Client.java, each of whose checks is a subtest.
//
// spec: G11, N3, N4, N5, N6, N7, N8, C3, C6, R2, R3, S9, S10, X2, Z8
func TestPyrolite(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	program := filepath.Join(t.TempDir(), "pyro-cluster")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "../../cmd/pyro-cluster").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	nodes := &spawn.Cluster{Program: program, Dir: t.TempDir()}
	t.Cleanup(func() {
		if err := nodes.Stop(15); err != nil {
			t.Error(err)
		}
	})
	if err := nodes.Start(ctx, 3); err != nil {
		t.Fatal(err)
	}
	serve(t, ctx, nodes.Addresses())
	host, port, err := net.SplitHostPort(nodes.Addresses()[1])
	if err != nil {
		t.Fatal(err)
	}
	java := exec.CommandContext(ctx, "java", "-Dfile.encoding=UTF-8", "-cp", "../../.cache/java/*", "Client.java", host, port)
	java.WaitDelay = 5 * time.Second
	out, err := java.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v (is .cache/java there? scripts/java.sh makes it)\n%s", java, err, out)
	}
	checks := 0
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		kind, rest, _ := strings.Cut(line, "\t")
		name, why, _ := strings.Cut(rest, "\t")
		switch kind {
		case "ok", "FAILED":
			checks++
			t.Run(name, func(t *testing.T) {
				if kind == "FAILED" {
					t.Error(why)
				}
			})
		case "done":
			if name != strconv.Itoa(checks) || checks == 0 {
				t.Errorf("saw %d checks of %s", checks, name)
			}
			checks = -1
		default:
			t.Logf("Client.java: %s", line)
		}
	}
	if checks != -1 {
		t.Errorf("Client.java did not get to its end:\n%s", out)
	}
}
