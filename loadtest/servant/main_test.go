package servant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// patience bounds every wait: far more than anything takes on a busy machine.
const patience = 60 * time.Second

// childLedger is the environment variable that makes this program a servant with that ledger.
const childLedger = "LOADTEST_TEST_LEDGER"

func TestMain(m *testing.M) {
	if path := os.Getenv(childLedger); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

func child(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Serve(ctx, Options{Ledger: path}, func(uri core.URI) { fmt.Println("serving", uri) }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process runs a command to be a servant, and returns it with its URI.  It is killed at the test's end.
func process(t *testing.T, cmd *exec.Cmd) (*spawn.Process, core.URI) {
	t.Helper()
	p, err := spawn.Start(filepath.Base(cmd.Path), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.End(syscall.SIGKILL) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line, err := p.Line(ctx, "serving ")
	if err != nil {
		t.Fatal(err)
	}
	return p, parseURI(t, line)
}

func parseURI(t *testing.T, s string) core.URI {
	t.Helper()
	uri, err := core.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// goChild runs this program as a servant.
func goChild(t *testing.T, path string) (*spawn.Process, core.URI) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childLedger+"="+path)
	return process(t, cmd)
}

// pythonCommand is the Python servant, with these options.
func pythonCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	interpreter := os.Getenv("PCLUSTER_PYTHON")
	if interpreter == "" {
		interpreter = filepath.Join("..", "..", ".venv", "bin", "python")
	}
	interpreter, err := filepath.Abs(interpreter)
	if err == nil {
		_, err = os.Stat(interpreter)
	}
	if err != nil {
		t.Fatalf("no Python with Pyro5: %v: run make venv (scripts/venv.sh)", err)
	}
	// With no end to the time for goodbyes, a servant that only ends when it is over does not end at all.
	source := bytes.Replace(Python, []byte("\nGOODBYE_SECONDS = 5\n"), []byte("\nGOODBYE_SECONDS = 3600\n"), 1)
	if bytes.Equal(source, Python) {
		t.Fatal("servant.py has no line GOODBYE_SECONDS = 5")
	}
	script := filepath.Join(t.TempDir(), "servant.py")
	if err := os.WriteFile(script, source, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter, append([]string{script}, args...)...)
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "PYRO") && !strings.HasPrefix(setting, "PYTHON") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	return cmd
}

// serving is a servant of this process.
type serving struct {
	uri  core.URI
	stop func() error // makes it end, and waits for that
}

// goServant runs Serve until stop or the test's end.
func goServant(t *testing.T, opts Options) serving {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan core.URI, 1), make(chan error, 1)
	go func() { ended <- Serve(ctx, opts, func(uri core.URI) { ready <- uri }) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	select {
	case uri := <-ready:
		t.Cleanup(func() {
			if err := stop(); err != nil {
				t.Errorf("Serve(%+v): %v", opts, err)
			}
		})
		return serving{uri, stop}
	case err := <-ended:
		cancel()
		t.Fatalf("Serve(%+v): %v", opts, err)
		return serving{}
	}
}

// serveObject serves an object of any kind, and returns a proxy for it.
func serveObject(t *testing.T, id string, obj any) *core.Proxy {
	t.Helper()
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uri, err := d.Register(id, obj, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return proxy(t, uri, "")
}

// proxy returns a proxy that is closed at the test's end.
func proxy(t *testing.T, uri core.URI, serializer string) *core.Proxy {
	t.Helper()
	p := core.NewProxy(uri, core.ProxyOptions{Serializer: serializer})
	t.Cleanup(func() { p.Close() })
	return p
}

// as returns a context for a call with that id.
func as(ctx context.Context, id ledger.ID) context.Context { return core.WithCorrelationID(ctx, id) }

// store is the store of a name server: a real state machine behind a lock.
type store struct {
	mu    sync.Mutex
	state *fsm.State
	index uint64
}

func (s *store) View(ctx context.Context) (*fsm.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.View(), ctx.Err()
}

func (s *store) Apply(_ context.Context, c fsm.Command) (fsm.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := naming.Prepare(s.state.View(), c)
	if err != nil {
		return fsm.Result{}, err
	}
	entry, err := fsm.EncodeEntry([]fsm.Command{c})
	if err != nil {
		return fsm.Result{}, err
	}
	s.index++
	results, err := s.state.Apply(s.index, entry)
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}

// nameServer runs a name server, and returns its address.
func nameServer(t *testing.T) (node string, client *naming.Client) {
	t.Helper()
	p := serveObject(t, naming.ObjectID, naming.NewServer(&store{state: fsm.New()}, naming.ServerOptions{}).Servant())
	node = net.JoinHostPort(p.URI().Host, strconv.Itoa(p.URI().Port))
	client, err := naming.NewClient([]string{node}, naming.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return node, client
}

// members returns the URIs in the group by member id.
func members(t *testing.T, ns *naming.Client) map[string]core.URI {
	t.Helper()
	uris := make(map[string]core.URI)
	g, err := ns.Group(t.Context(), "works")
	if err != nil && !errors.Is(err, naming.ErrUnknownName) {
		t.Fatal(err)
	}
	for _, m := range g.Members {
		uris[m.ID] = m.URI
	}
	return uris
}
