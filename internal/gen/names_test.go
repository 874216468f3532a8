package gen_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/gen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reflected has names that are not simple to turn into Python's.
type reflected struct{}

func (reflected) MaxSize()     {}
func (reflected) URLPath()     {}
func (reflected) HTTP2()       {}
func (reflected) HTTPGet2()    {}
func (reflected) Get_Balance() {}
func (reflected) A()           {}
func (reflected) ÜberMaß()     {}

// TestSnakeCase: names are the same with and without the compiler.
func TestSnakeCase(t *testing.T) {
	t.Parallel()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	uri, err := d.Register("names", reflected{}, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go d.Serve(context.Background())
	p := core.NewProxy(uri, core.ProxyOptions{})
	defer p.Close()
	meta, err := p.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for method := range reflect.TypeFor[reflected]().Methods() {
		want = append(want, gen.SnakeCase(method.Name))
	}
	if slices.Sort(want); !slices.Equal(meta.Methods, want) {
		t.Errorf("got %q, want %q", meta.Methods, want)
	}
}
