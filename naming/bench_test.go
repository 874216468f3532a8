package naming

import (
	"context"
	"fmt"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

func benchSubject(b *testing.B, names int) *subject {
	b.Helper()
	s := newSubject()
	for i := range names {
		c := fsm.Command{Kind: fsm.KindRegister, Name: fmt.Sprintf("service.%06d", i), URI: uriA, Tags: []string{"x"}}
		if _, err := s.store.Apply(context.Background(), c); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func benchCall(b *testing.B, s *subject, method string, args ...any) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.methods[method].Func(context.Background(), args); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	benchCall(b, benchSubject(b, 1000), "lookup", "service.000500", false)
}

func BenchmarkList10000(b *testing.B) {
	s := benchSubject(b, 10_000)
	for name, args := range map[string][]any{
		"all":    {nil, nil, false},
		"prefix": {"service.00050", nil, false},
		"regex":  {nil, `service\.\d+5$`, false},
	} {
		b.Run(name, func(b *testing.B) { benchCall(b, s, "list", args...) })
	}
}

func BenchmarkClientLookup(b *testing.B) {
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		b.Fatal(err)
	}
	s := benchSubject(b, 1000)
	if _, err := d.Register(ObjectID, s.Servant(), core.ObjectOptions{}); err != nil {
		b.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := d.Serve(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	defer func() { d.Close(); <-stopped }()
	c, err := NewClient([]string{d.Addr().String()}, ClientOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		if _, err := c.Lookup(context.Background(), "service.000500"); err != nil {
			b.Fatal(err)
		}
	}
}
