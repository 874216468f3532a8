package servant

import (
	"context"
	"errors"
	"iter"
	"math"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// kinds are the two servants, as functions that start one with or without a ledger.
var kinds = map[string]func(t *testing.T, path string) core.URI{
	"go": func(t *testing.T, path string) core.URI {
		return goServant(t, Options{Member: "m1", Ledger: path}).uri
	},
	"python": func(t *testing.T, path string) core.URI {
		args := []string{"--member", "m1"}
		if path != "" {
			args = append(args, "--ledger", path)
		}
		_, uri := process(t, pythonCommand(t, args...))
		return uri
	},
}

// children are the two servants as processes of their own.
var children = map[string]func(t *testing.T, path string) (*spawn.Process, core.URI){
	"go": goChild,
	"python": func(t *testing.T, path string) (*spawn.Process, core.URI) {
		return process(t, pythonCommand(t, "--member", "m1", "--ledger", path))
	},
}

// forEach runs a test with both servants.
func forEach[T any](t *testing.T, servants map[string]T, test func(t *testing.T, servant T)) {
	for name, servant := range servants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, servant)
		})
	}
}

func collect(l iter.Seq2[ledger.ID, error]) (ids []ledger.ID, err error) {
	for id, err := range l {
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func TestMethods(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		method string
		args   []any
		want   any
	}{
		{"ints", "add", []any{2, -3}, int64(-1)},
		{"keywords", "add", []any{core.Kwargs{"a": 2, "b": 3}}, int64(5)},
		{"floats", "add", []any{1.5, 2}, 3.5},
		{"who", "who", nil, "m1"},
		{"int", "echo", []any{42}, int64(42)},
		{"text", "echo", []any{"x ☃"}, "x ☃"},
		{"none", "echo", []any{nil}, nil},
		{"list", "echo", []any{[]any{int64(1), "a", []any{true}}}, []any{int64(1), "a", []any{true}}},
		{"dict", "echo", []any{map[string]any{"a": 1.5}}, map[string]any{"a": 1.5}},
		{"oneway", "oneway", []any{"x"}, nil},
	}
	forEach(t, kinds, func(t *testing.T, start func(*testing.T, string) core.URI) {
		uri := start(t, filepath.Join(t.TempDir(), "ledger"))
		for _, serializer := range []string{"serpent", "marshal", "json", "msgpack"} {
			p := proxy(t, uri, serializer)
			for _, tt := range tests {
				var got any
				if err := p.Call(t.Context(), tt.method, &got, tt.args...); err != nil || !reflect.DeepEqual(got, tt.want) {
					t.Errorf("%s: %s: %s%v: got %#v, %v, want %#v", serializer, tt.name, tt.method, tt.args, got, err, tt.want)
				}
			}
			if serializer == "json" { // has no bytes
				continue
			}
			sent, got := []byte("\x00\xff bytes"), []byte(nil)
			if err := p.Call(t.Context(), "echo", &got, sent); err != nil || string(got) != string(sent) {
				t.Errorf("%s: echo(%q): got %q, %v", serializer, sent, got, err)
			}
		}
		m, err := proxy(t, uri, "").Metadata(t.Context())
		if want := []string{"add", "echo", "ledger", "oneway", "who"}; err != nil || !slices.Equal(m.Methods, want) ||
			!slices.Equal(m.Oneway, []string{"oneway"}) || len(m.Contracts) != 0 {
			t.Errorf("metadata: got %+v, %v, want methods %v, one of them oneway, no contracts", m, err, want)
		}
	})
}

func TestAdd(t *testing.T) {
	t.Parallel()
	big63 := new(big.Int).Lsh(big.NewInt(1), 63)
	big2000 := new(big.Int).Lsh(big.NewInt(1), 2000)
	tests := []struct{ a, b, want any }{
		{int64(1), int64(2), int64(3)},
		{int64(math.MaxInt64), int64(1), big63},
		{int64(1), int64(math.MaxInt64), big63},
		{int64(math.MaxInt64), int64(math.MinInt64), int64(-1)},
		{int64(math.MinInt64), int64(-1), new(big.Int).Sub(new(big.Int).Neg(big63), big.NewInt(1))},
		{int64(math.MinInt64), int64(0), int64(math.MinInt64)},
		{big63, int64(1), new(big.Int).Add(big63, big.NewInt(1))},
		{int64(1), 0.5, 1.5},
		{0.5, 0.25, 0.75},
		{"a", "b", nil},
		{int64(1), nil, nil},
		{big2000, 0.5, nil},
	}
	for _, tt := range tests {
		got, err := add(tt.a, tt.b)
		if !reflect.DeepEqual(got, tt.want) || errors.Is(err, core.TypeError) != (tt.want == nil) {
			t.Errorf("add(%v, %v): got %v, %v, want %v", tt.a, tt.b, got, err, tt.want)
		}
	}
}

// Each call is in the ledger with its id, in order, as often as it ran; who and ledger are no works.
func TestCallsAreInTheLedger(t *testing.T) {
	t.Parallel()
	forEach(t, kinds, func(t *testing.T, start func(*testing.T, string) core.URI) {
		path := filepath.Join(t.TempDir(), "ledger")
		p := proxy(t, start(t, path), "")
		ids := make([]ledger.ID, 4)
		for i := range ids {
			ids[i] = ledger.NewID(0, 1, uint32(i))
		}
		calls := []struct {
			id     ledger.ID
			method string
			args   []any
			class  error // of the exception
		}{
			{ids[0], "add", []any{1, 2}, nil},
			{ids[1], "echo", []any{"x"}, nil},
			{ids[3], "who", nil, nil},
			{ids[0], "add", []any{1, 2}, nil},
			{ids[2], "add", []any{"x", 2}, core.TypeError},
			{ids[3], "oneway", []any{"x"}, nil},
		}
		for _, c := range calls {
			if err := p.Call(as(t.Context(), c.id), c.method, nil, c.args...); !errors.Is(err, c.class) {
				t.Errorf("%s%v: %v, want %v", c.method, c.args, err, c.class)
			}
		}
		want := []ledger.ID{ids[0], ids[1], ids[0], ids[2], ids[3]}
		awaitRecords(t, path, len(want))
		if got, err := collect(ledger.ReadFile(path)); err != nil || !slices.Equal(got, want) {
			t.Errorf("file: got %x, %v, want %x", got, err, want)
		}
		if got, err := collect(ReadLedger(t.Context(), p)); err != nil || !slices.Equal(got, want) {
			t.Errorf("ReadLedger: got %x, %v, want %x", got, err, want)
		}
	})
}

// awaitRecords waits until a ledger has n records: a oneway call ends before it is in.
func awaitRecords(t *testing.T, path string, n int) {
	t.Helper()
	await(t, strconv.Itoa(n)+" records", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() >= int64(16+16*n)
	})
}

// await waits for a condition that nothing announces.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s after %v", what, patience)
		}
	}
}

func TestLedgerMethod(t *testing.T) {
	t.Parallel()
	forEach(t, kinds, func(t *testing.T, start func(*testing.T, string) core.URI) {
		path := filepath.Join(t.TempDir(), "ledger")
		large := "pyro-ledger v1\n\x00" + strings.Repeat("0123456789abcdef", maxPart/16)
		if err := os.WriteFile(path, []byte(large+"cut"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := proxy(t, start(t, path), "serpent") // brings bytes as a dict
		tests := []struct{ offset, size, want int }{
			{0, 10, 10}, {16, 16, 16}, {0, 0, 0}, {len(large) - 5, 100, 5}, {len(large), 100, 0}, {1 << 40, 100, 0}, {0, 1 << 40, maxPart},
		}
		for _, tt := range tests {
			var got []byte
			err := p.Call(t.Context(), "ledger", &got, tt.offset, tt.size)
			from := min(tt.offset, len(large))
			if err != nil || string(got) != large[from:from+tt.want] {
				t.Errorf("ledger(%d, %d): got %d bytes, %v, want %d", tt.offset, tt.size, len(got), err, tt.want)
			}
		}
		for _, args := range [][]any{{-1, 10}, {0, -1}, {"x", 1}, {0, 1.5}} {
			if err := p.Call(t.Context(), "ledger", nil, args...); !errors.Is(err, core.ValueError) {
				t.Errorf("ledger%v: %v, want a ValueError", args, err)
			}
		}
		if got, err := collect(ReadLedger(t.Context(), p)); err != nil || len(got) != maxPart/16 {
			t.Errorf("ReadLedger: got %d ids, %v, want %d", len(got), err, maxPart/16)
		}
		for range ReadLedger(t.Context(), p) { // and stop early
			break
		}
	})
}

func TestWithoutALedger(t *testing.T) {
	t.Parallel()
	forEach(t, kinds, func(t *testing.T, start func(*testing.T, string) core.URI) {
		p := proxy(t, start(t, ""), "")
		var sum int
		if err := p.Call(t.Context(), "add", &sum, 1, 2); err != nil || sum != 3 {
			t.Errorf("add(1, 2): got %d, %v", sum, err)
		}
		if _, err := collect(ReadLedger(t.Context(), p)); !errors.Is(err, core.AttributeError) {
			t.Errorf("ReadLedger: %v, want an AttributeError", err)
		}
		if m, err := p.Metadata(t.Context()); err != nil || slices.Contains(m.Methods, "ledger") {
			t.Errorf("metadata: got %+v, %v, want no ledger", m, err)
		}
	})
}

// A servant whose disk is full runs nothing.
func TestLedgerThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	o := &object{append: func(id ledger.ID) error {
		_, err := full.Write(id[:])
		return err
	}}
	s := o.servant()
	ran := false
	s.Methods = append(s.Methods, o.work("mark", nil, func([]any) (any, error) {
		ran = true
		return nil, nil
	}))
	p := serveObject(t, Object, s)
	for method, args := range map[string][]any{"mark": nil, "add": {1, 2}, "echo": {1}} {
		err := p.Call(t.Context(), method, nil, args...)
		if !NotRun(err) || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%s%v: %v, want an error that says that it was not run", method, args, err)
		}
	}
	if ran {
		t.Error("a method ran that was not in the ledger")
	}
}

// The same in Python, where a limit on the size of files stands for the full disk.
func TestPythonLedgerThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	cmd := pythonCommand(t, "--member", "m1", "--ledger", path)
	limit := `import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")`
	cmd.Args = slices.Insert(cmd.Args, 1, "-c", limit)
	_, uri := process(t, cmd)
	p := proxy(t, uri, "")
	for i, want := range []bool{false, true, true} { // room for the header, one record, and half of another
		if err := p.Call(t.Context(), "add", nil, 1, 2); NotRun(err) != want || err != nil && !want {
			t.Errorf("call %d: %v, want not run: %v", i, err, want)
		}
	}
	if ids, err := collect(ledger.ReadFile(path)); err == nil || len(ids) != 1 {
		t.Errorf("ledger: got %x, %v, want one id and half of another", ids, err)
	}
}

func TestNotRun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"other", errors.New("not run: x"), false},
		{"other class", core.RuntimeError.New("not run: x"), false},
		{"other text", errNotRun.New("x"), false},
		{"not run", errNotRun.New("not run: x"), true},
		{"wrapped", errors.Join(errNotRun.New("not run: x")), true},
	}
	for _, tt := range tests {
		if got := NotRun(tt.err); got != tt.want {
			t.Errorf("%s: NotRun(%v) = %v, want %v", tt.name, tt.err, got, tt.want)
		}
	}
}

// What was acknowledged before kill -9 is in the file.
func TestLedgerSurvivesKill(t *testing.T) {
	t.Parallel()
	forEach(t, children, func(t *testing.T, start func(*testing.T, string) (*spawn.Process, core.URI)) {
		const run, callers, killAfter = 42, 4, 50
		path := filepath.Join(t.TempDir(), "ledger")
		j := ledger.NewJournal(run, callers)
		child, uri := start(t, path)
		enough := make(chan struct{})
		var wg sync.WaitGroup
		for caller := range uint32(callers) {
			p := proxy(t, uri, "")
			wg.Go(func() {
				for call := uint32(0); ; call++ {
					id := ledger.NewID(run, caller, call)
					if err := p.Call(as(t.Context(), id), "add", nil, 1, 2); err != nil {
						j.Note(id, ledger.Unknown)
						return
					}
					j.Note(id, ledger.Acked)
					if caller == 0 && call == killAfter {
						close(enough)
					}
				}
			})
		}
		<-enough
		child.End(syscall.SIGKILL)
		wg.Wait()
		v, err := j.Judge(ledger.ReadFile(path))
		if err != nil || v.Calls < killAfter || v.Lost+v.Twice+v.Strangers != 0 || v.Unknown != callers {
			t.Errorf("judged %+v, %v, want nothing lost, twice or strange, and %d unknown", v, err, callers)
		}
		// Started again, the servant goes on with the same file.
		_, uri = start(t, path)
		before := v.Ran
		id := ledger.NewID(run, 0, 1<<20)
		j.Note(id, ledger.Acked)
		if err := proxy(t, uri, "").Call(as(t.Context(), id), "add", nil, 1, 2); err != nil {
			t.Fatal(err)
		}
		if v, err := j.Judge(ledger.ReadFile(path)); err != nil || v.Ran != before+1 || v.Lost != 0 {
			t.Errorf("after a restart: judged %+v, %v, want %d that ran", v, err, before+1)
		}
	})
}

// Servants that do not do what they say are found out, over real connections.
func TestLiarsAreCaught(t *testing.T) {
	t.Parallel()
	const run = 42
	plus := func(args []any) (any, error) { return add(args[0], args[1]) }
	params := []core.Param{{Name: "a"}, {Name: "b"}}
	tests := []struct {
		name string
		lie  func(o *object) core.Method
		want ledger.Verdict
	}{
		{"honest", func(o *object) core.Method { return o.work("add", params, plus) }, ledger.Verdict{Calls: 1, Ran: 1}},
		{"runs it twice", func(o *object) core.Method {
			m := o.work("add", params, plus)
			return core.Method{Name: "add", Params: params, Func: func(ctx context.Context, args []any) (any, error) {
				if _, err := m.Func(ctx, args); err != nil {
					return nil, err
				}
				return m.Func(ctx, args)
			}}
		}, ledger.Verdict{Calls: 1, Ran: 1, Twice: 1, Examples: []string{"twice: caller 0, call 0"}}},
		{"answers without running", func(*object) core.Method {
			return core.Method{Name: "add", Params: params, Func: func(_ context.Context, args []any) (any, error) { return plus(args) }}
		}, ledger.Verdict{Calls: 1, Lost: 1, Examples: []string{"lost: caller 0, call 0"}}},
		{"runs it and denies that", func(o *object) core.Method {
			return o.work("add", params, func([]any) (any, error) { return nil, errNotRun.New("%sno", notRunPrefix) })
		}, ledger.Verdict{Calls: 1, Ran: 1, Phantom: 1, Examples: []string{"phantom: caller 0, call 0"}}},
		{"runs what nobody asked for", func(o *object) core.Method {
			m := o.work("add", params, plus)
			return core.Method{Name: "add", Params: params, Func: func(ctx context.Context, args []any) (any, error) {
				if err := o.append(ledger.NewID(run, 5, 5)); err != nil {
					return nil, err
				}
				return m.Func(ctx, args)
			}}
		}, ledger.Verdict{Calls: 1, Ran: 1, Strangers: 1, Examples: []string{"stranger: caller 5, call 5"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger")
			o, err := newObject("m1", path)
			if err != nil {
				t.Fatal(err)
			}
			defer o.close()
			p := serveObject(t, Object, &core.Servant{Class: "Liar", Methods: []core.Method{tt.lie(o)}})
			j := ledger.NewJournal(run, 1)
			id := ledger.NewID(run, 0, 0)
			switch err := p.Call(as(t.Context(), id), "add", nil, 1, 2); {
			case err == nil:
				j.Note(id, ledger.Acked)
			case NotRun(err):
				j.Note(id, ledger.NotExecuted)
			default:
				t.Fatal(err)
			}
			if got, err := j.Judge(ledger.ReadFile(path)); err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("judged %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestReadLedgerOfALiar(t *testing.T) {
	t.Parallel()
	s := &core.Servant{Class: "Liar", Methods: []core.Method{{
		Name:   "ledger",
		Params: []core.Param{{Name: "offset"}, {Name: "size"}},
		Func:   func(context.Context, []any) (any, error) { return make([]byte, maxPart+1), nil },
	}}}
	if _, err := collect(ReadLedger(t.Context(), serveObject(t, Object, s))); err == nil || !strings.Contains(err.Error(), "1048577 bytes") {
		t.Errorf("ReadLedger: %v, want an error with the number of bytes", err)
	}
}

// A part may be shorter than what was asked for.
func TestReadLedgerInSmallParts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	o, err := newObject("m1", path)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	want := []ledger.ID{ledger.NewID(1, 2, 3), ledger.NewID(4, 5, 6)}
	for _, id := range want {
		if err := o.append(id); err != nil {
			t.Fatal(err)
		}
	}
	s := &core.Servant{Class: "Small", Methods: []core.Method{{
		Name:   "ledger",
		Params: []core.Param{{Name: "offset"}, {Name: "size"}},
		Func:   func(_ context.Context, args []any) (any, error) { return o.part(args[0], int64(7)) },
	}}}
	if got, err := collect(ReadLedger(t.Context(), serveObject(t, Object, s))); err != nil || !slices.Equal(got, want) {
		t.Errorf("ReadLedger: got %x, %v, want %x", got, err, want)
	}
}

func TestMembership(t *testing.T) {
	t.Parallel()
	node, ns := nameServer(t)
	opts := Options{Nodes: []string{node}, Group: "works", Member: "m1"}
	first := goServant(t, opts)
	if got := members(t, ns); got["m1"] != first.uri || len(got) != 1 {
		t.Errorf("members: got %v, want m1 at %v", got, first.uri)
	}
	second := goServant(t, opts) // as after a kill: the same id at another address
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	if got := members(t, ns); got["m1"] != second.uri || len(got) != 1 {
		t.Errorf("members after a successor: got %v, want m1 at %v", got, second.uri)
	}
	if err := second.stop(); err != nil {
		t.Error(err)
	}
	if got := members(t, ns); len(got) != 0 {
		t.Errorf("members in the end: got %v, want none", got)
	}
	opts.Member = ""
	var who string
	third := goServant(t, opts)
	if err := proxy(t, third.uri, "").Call(t.Context(), "who", &who); err != nil || members(t, ns)[who] != third.uri {
		t.Errorf("who: got %q, %v, want the id of the member at %v", who, err, third.uri)
	}
}

func TestServeAtAPort(t *testing.T) {
	t.Parallel()
	s := goServant(t, Options{Host: "127.0.0.1"})
	opts := Options{Host: "127.0.0.1", Port: s.uri.Port, Advertise: "example.org:7"}
	if err := Serve(t.Context(), opts, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Serve at a port that is taken: %v, want that it is in use", err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if again := goServant(t, opts); again.uri.Host != "example.org" || again.uri.Port != 7 {
		t.Errorf("Serve(%+v): got %v", opts, again.uri)
	}
}

func TestServeErrors(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("of the user"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		opts Options
		text string
	}{
		{"ledger that is none", Options{Ledger: other}, other},
		{"ledger in no directory", Options{Ledger: filepath.Join(other, "x")}, other},
		{"unspecified address", Options{Host: "0.0.0.0"}, "Advertise"},
		{"port", Options{Port: 70000}, "70000"},
		{"node", Options{Nodes: []string{"a:b:c"}, Group: "works"}, "a:b:c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := Serve(t.Context(), tt.opts, nil)
			if err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Serve(%+v): %v, want one line with %q", tt.opts, err, tt.text)
			}
		})
	}
}

// deadNode is an address at which nobody listens.
func deadNode(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// A servant that waits for a name server can be told to stop, which is no error.
func TestStopWhileJoining(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	silent := serveObject(t, "Pyro.NameServer", &core.Servant{Class: "NameServer", Methods: []core.Method{{
		Name: "join", Variadic: true, Func: func(context.Context, []any) (any, error) {
			once()
			return nil, core.ConnectionClosedError.New("no quorum")
		},
	}}})
	node := net.JoinHostPort(silent.URI().Host, strconv.Itoa(silent.URI().Port))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-asked
		cancel()
	}()
	ready := func(uri core.URI) { t.Errorf("%v is ready without having joined", uri) }
	if err := Serve(ctx, Options{Nodes: []string{node}, Group: "works"}, ready); err != nil {
		t.Errorf("Serve: %v, want nil", err)
	}
}

func TestJoinWithoutANameServer(t *testing.T) {
	t.Parallel()
	m, err := newMembership(Options{Nodes: []string{deadNode(t)}, Group: "works", Member: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.join(ctx, parseURI(t, "PYRO:loadtest@localhost:1")); err == nil || !strings.Contains(err.Error(), "join group works") {
		t.Errorf("join: %v, want an error that names the group", err)
	}
}

// pythonMember is a Python servant in the group.
func pythonMember(t *testing.T, node string, args ...string) *exec.Cmd {
	t.Helper()
	deadHost, deadPort, _ := net.SplitHostPort(deadNode(t))
	host, port, _ := net.SplitHostPort(node)
	return pythonCommand(t, append([]string{"--member", "py1", "--group", "works",
		"--ns-host", deadHost, "--ns-port", deadPort, "--ns-host", host, "--ns-port", port}, args...)...)
}

func TestPythonMembership(t *testing.T) {
	t.Parallel()
	node, ns := nameServer(t)
	child, uri := process(t, pythonMember(t, node, "--nat", "127.0.0.1:0"))
	if got := members(t, ns); got["py1"] != uri || len(got) != 1 {
		t.Errorf("members: got %v, want py1 at %v", got, uri)
	}
	for range 100 { // idle connections, more than stock Pyro5 allows
		if err := proxy(t, uri, "").Call(t.Context(), "add", nil, 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := child.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	child, uri = process(t, pythonMember(t, node, "--port", strconv.Itoa(uri.Port)))
	if got := members(t, ns); got["py1"] != uri || len(got) != 1 {
		t.Errorf("members after a restart: got %v, want py1 at %v", got, uri)
	}
	for range 100 {
		if err := proxy(t, uri, "").Call(t.Context(), "add", nil, 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := child.End(syscall.SIGTERM); err != nil { // with exit code 0
		t.Error(err)
	}
	if got := members(t, ns); len(got) != 0 {
		t.Errorf("members in the end: got %v, want none", got)
	}
}

// gate is a connection whose reader waits, once it is shut, until it is opened.
type gate struct {
	net.Conn
	shut   *atomic.Bool
	opened chan struct{}
}

func (g gate) Read(p []byte) (int, error) {
	if g.shut.Load() {
		<-g.opened
	}
	return g.Conn.Read(p)
}

// A call under way when Python is told to stop gets its answer.
func TestPythonDrains(t *testing.T) {
	t.Parallel()
	node, ns := nameServer(t)
	path := filepath.Join(t.TempDir(), "ledger")
	child, uri := process(t, pythonMember(t, node, "--ledger", path))
	shut, opened := new(atomic.Bool), make(chan struct{})
	p := core.NewProxy(uri, core.ProxyOptions{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return gate{c, shut, opened}, err
	}})
	defer p.Close()
	if err := p.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The answer is far larger than the buffers of a connection, so the call is under way until it is read.
	shut.Store(true)
	large := strings.Repeat("x", 32<<20)
	answered := make(chan error, 1)
	go func() {
		var got string
		err := p.Call(t.Context(), "echo", &got, large)
		if err == nil && got != large {
			err = errors.New("another text came back")
		}
		answered <- err
	}()
	awaitRecords(t, path, 1)
	child.Signal(syscall.SIGTERM)
	awaitRefusal(t, uri)
	close(opened)
	if err := <-answered; err != nil {
		t.Errorf("call under way: %v", err)
	}
	if err := child.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if got := members(t, ns); len(got) != 0 {
		t.Errorf("members in the end: got %v, want none", got)
	}
}

// awaitRefusal waits until nobody listens at uri any more.
func awaitRefusal(t *testing.T, uri core.URI) {
	t.Helper()
	await(t, "refused connections", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// The ledger that Python writes stays readable after a record of which only a part could be written.
func TestPythonLedgerAfterAnError(t *testing.T) {
	t.Parallel()
	cmd := pythonCommand(t, filepath.Join(t.TempDir(), "ledger"))
	script := `import os, runpy, sys
ledger = runpy.run_path(sys.argv[1])["Ledger"](sys.argv[2])
write, written = os.write, 0
def part(fd, data):
    global written
    written += 1
    return write(fd, data[:5])
os.write = part
for _ in range(2):
    try:
        ledger.append(b"0123456789abcdef")
    except OSError as x:
        assert str(x).startswith("not run: "), x
    else:
        sys.exit("append did not fail")
assert written == 1, written`
	cmd.Args = slices.Insert(cmd.Args, 1, "-c", script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestPythonErrors(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("of the user"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := strconv.Itoa(goServant(t, Options{Host: "127.0.0.1"}).uri.Port)
	tests := []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no member", nil, 2, "--member"},
		{"unknown option", []string{"--member", "m", "--xyz"}, 2, "--xyz"},
		{"half a node", []string{"--member", "m", "--group", "g", "--ns-host", "h"}, 2, "pairs"},
		{"group without nodes", []string{"--member", "m", "--group", "g"}, 2, "--ns-host"},
		{"nat", []string{"--member", "m", "--nat", "x"}, 2, "HOST:PORT"},
		{"threads", []string{"--member", "m", "--threads", "0"}, 2, "at least 1"},
		{"ledger that is none", []string{"--member", "m", "--ledger", other}, 1, "name another file"},
		{"ledger that is a directory", []string{"--member", "m", "--ledger", filepath.Dir(other)}, 1, filepath.Dir(other)},
		{"ledger that is a device", []string{"--member", "m", "--ledger", os.DevNull}, 1, "regular file"},
		{"port taken", []string{"--member", "m", "--host", "127.0.0.1", "--port", taken}, 1, "in use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := pythonCommand(t, tt.args...).CombinedOutput()
			exit, _ := errors.AsType[*exec.ExitError](err)
			if text := string(out); exit == nil || exit.ExitCode() != tt.code || !strings.Contains(text, tt.text) || strings.Count(text, "\n") != 1 {
				t.Errorf("%q: %v, %q, want exit code %d and one line with %q", tt.args, err, text, tt.code, tt.text)
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	for name, path := range map[string]string{"plain": "", "ledger": filepath.Join(b.TempDir(), "ledger")} {
		b.Run(name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			ready, ended := make(chan core.URI, 1), make(chan error, 1)
			go func() { ended <- Serve(ctx, Options{Ledger: path}, func(uri core.URI) { ready <- uri }) }()
			p := core.NewProxy(<-ready, core.ProxyOptions{})
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Call(ctx, "add", nil, 1, 2); err != nil {
					b.Fatal(err)
				}
			}
			p.Close()
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

// TestLedgerOfAnother: two servants with one ledger would have every call in it counted twice.
func TestLedgerOfAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	first, err := newObject("a", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newObject("b", path); err == nil || !strings.Contains(err.Error(), "that of another servant") {
		t.Errorf("a second servant with the same ledger: got %v, want that it is refused", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	again, err := newObject("b", path)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.close()
}

// TestUnlockDespiteChild: a fork copies open files until the child runs its program.
func TestUnlockDespiteChild(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	f, err := lockedLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(f.Fd())) // has the lock, too, as a child's would
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child)
	if err := unlock(f); err != nil {
		t.Fatal(err)
	}
	again, err := lockedLedger(path)
	if err != nil {
		t.Fatalf("after the ledger was unlocked: %v", err)
	}
	again.Close()
}
