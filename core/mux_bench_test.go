package core

import (
	"context"
	"testing"
)

// BenchmarkInvoke is one caller at a time on a connection for many.
func BenchmarkInvoke(b *testing.B) {
	p := serveTyped(b, ProxyOptions{})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		call := NewInvocation("add")
		call.Args.Int(1)
		call.Args.Int(2)
		if err := p.Invoke(ctx, call); err != nil {
			b.Fatal(err)
		}
		if call.Result.Int() != 3 {
			b.Fatal("wrong sum")
		}
		call.Free()
	}
}
