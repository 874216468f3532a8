package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// What clients do to a name.
type action int

const (
	register     action = iota // overwrites
	registerSafe               // is refused if the name exists
	lookup
	remove
	actions // how many there are
)

// request is an operation on one name; port is what is registered, never the same twice and never 0.
type request struct {
	action action
	name   string
	port   int
}

// response is what the client was told.
type response struct {
	unknown bool // an error that leaves open whether the operation ran
	refused bool // registerSafe: the name exists; lookup and remove: it does not
	port    int  // lookup
}

// model is the name server as clients are promised it: each name is a register of its own, and every operation happens at one moment
// between its call and its return.  It is written apart from the state machine, which it judges.  The state is the port that
// is registered, 0 for none.  An operation of unknown outcome never returns, so that it may happen at any later moment, or
// last, where nobody sees it.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byName := map[string][]porcupine.Operation{}
		for _, op := range history {
			name := op.Input.(request).name
			byName[name] = append(byName[name], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byName {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(int), input.(request), output.(response)
		exists := now != 0
		switch in.action {
		case register:
			return true, in.port
		case registerSafe:
			if exists {
				return out.unknown || out.refused, now
			}
			return out.unknown || !out.refused, in.port
		case lookup:
			return out.unknown || out.refused == !exists && out.port == now, now
		case remove:
			return out.unknown || out.refused == !exists, 0
		}
		panic("no such action")
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// history is what all clients did and saw.
type history struct {
	start time.Time
	mu    sync.Mutex // guards ops
	ops   []porcupine.Operation
}

// run works on a few names until ctx ends, as one client.
func (h *history) run(ctx context.Context, t *testing.T, client int, addresses []string, random *rand.Rand) {
	ns := connect(t, addresses)
	defer ns.Close()
	pace := time.NewTicker(10 * time.Millisecond) // what the checker can judge in a second
	defer pace.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		in := request{action(random.IntN(int(actions))), fmt.Sprintf("chaos.%d", random.IntN(6)), client*100_000_000 + n}
		call := time.Since(h.start)
		out := do(context.WithoutCancel(ctx), t, ns, in)
		ret := int64(time.Since(h.start))
		if out.unknown {
			ret = math.MaxInt64
		}
		h.mu.Lock()
		h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: ret})
		h.mu.Unlock()
	}
}

// do runs one operation.  The value goes into the object id, since ports are small.
func do(ctx context.Context, t *testing.T, ns *naming.Client, in request) response {
	uri := core.URI{Protocol: "PYRO", Object: fmt.Sprint(in.port), Host: "localhost", Port: 1}
	var err error
	switch in.action {
	case register:
		err = ns.Register(ctx, in.name, uri, naming.RegisterOptions{})
	case registerSafe:
		err = ns.Register(ctx, in.name, uri, naming.RegisterOptions{Safe: true})
	case lookup:
		var e naming.Entry
		if e, err = ns.Lookup(ctx, in.name); err == nil {
			var port int
			if _, err := fmt.Sscan(e.URI.Object, &port); err != nil {
				t.Errorf("lookup of %s: %v", in.name, e.URI)
			}
			return response{port: port}
		}
	case remove:
		var there bool
		if there, err = ns.Remove(ctx, in.name); err == nil {
			return response{refused: !there}
		}
	}
	switch {
	case err == nil:
		return response{}
	case errors.Is(err, core.NamingError):
		return response{refused: true}
	}
	return response{unknown: true}
}

// judge checks that the history is linearizable; one that is not is kept as a picture.
func (h *history) judge(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	unknown := 0
	for _, op := range h.ops {
		if op.Output.(response).unknown {
			unknown++
		}
	}
	t.Logf("history: %d operations, %d of unknown outcome", len(h.ops), unknown)
	if len(h.ops) == 0 || unknown > len(h.ops)/10 {
		t.Errorf("history: %d operations, %d of them unknown: that judges nothing", len(h.ops), unknown)
	}
	result, info := porcupine.CheckOperationsVerbose(model, h.ops, time.Minute)
	if result == porcupine.Ok {
		return
	}
	path := filepath.Join(t.ArtifactDir(), "history.html")
	picture, err := os.Create(path)
	if err == nil {
		err = errors.Join(porcupine.Visualize(model, info, picture), picture.Close())
	}
	t.Errorf("the history is not linearizable (%s): see %s (%v); go test -artifacts keeps it", result, path, err)
}

// TestModel holds the judge itself to a few histories that it must tell apart.
func TestModel(t *testing.T) {
	t.Parallel()
	op := func(call, ret int64, in request, out response) porcupine.Operation {
		in.name = "n"
		return porcupine.Operation{Input: in, Output: out, Call: call, Return: ret}
	}
	never := int64(math.MaxInt64)
	for _, test := range []struct {
		name string
		ops  []porcupine.Operation
		want bool
	}{
		{"sees what was registered", []porcupine.Operation{
			op(0, 1, request{action: register, port: 1}, response{}), op(2, 3, request{action: lookup}, response{port: 1})}, true},
		{"stale read", []porcupine.Operation{
			op(0, 1, request{action: register, port: 1}, response{}), op(2, 3, request{action: register, port: 2}, response{}),
			op(4, 5, request{action: lookup}, response{port: 1})}, false},
		{"lost registration", []porcupine.Operation{
			op(0, 1, request{action: register, port: 1}, response{}), op(2, 3, request{action: lookup}, response{refused: true})}, false},
		{"two safe registrations", []porcupine.Operation{
			op(0, 5, request{action: registerSafe, port: 1}, response{}), op(1, 6, request{action: registerSafe, port: 2}, response{})}, false},
		{"unknown write seen later", []porcupine.Operation{
			op(0, never, request{action: register, port: 1}, response{unknown: true}), op(2, 3, request{action: lookup}, response{refused: true}),
			op(4, 5, request{action: lookup}, response{port: 1})}, true},
		{"unknown write undone", []porcupine.Operation{
			op(0, never, request{action: register, port: 1}, response{unknown: true}), op(2, 3, request{action: lookup}, response{port: 1}),
			op(4, 5, request{action: lookup}, response{refused: true})}, false},
		{"safe registration that ran twice", []porcupine.Operation{
			op(0, 9, request{action: registerSafe, port: 1}, response{refused: true}), op(10, 11, request{action: lookup}, response{port: 1})}, false},
	} {
		if got := porcupine.CheckOperations(model, test.ops); got != test.want {
			t.Errorf("%s: linearizable %t, want %t", test.name, got, test.want)
		}
	}
}
