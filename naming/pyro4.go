package naming

import (
	"context"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Pyro4's name server has the calls of Pyro5's, but for these: list has filters by metadata in place of yplookup, and metadata are lists, since
// Python 2 cannot read sets (Pyro4 naming.py).

// isPyro4 reports whether a call comes from a program of Pyro4.
func isPyro4(ctx context.Context) bool {
	info := core.CallInfoFrom(ctx)
	return info != nil && info.Pyro4
}

// absent is the value of an argument that was not given.
type absent struct{}

func given(v any) bool {
	_, isAbsent := v.(absent)
	return !isAbsent
}

// listArgs returns whether Pyro5's list is to return metadata, which is its third argument.  The method has the parameters of Pyro4's, where that
// is the fifth.
func listArgs(args []any) (withTags any, err error) {
	switch third, fourth, named := args[2], args[3], args[4]; {
	case given(third) && given(fourth) && given(named):
		return nil, typeError("list() takes from 0 to 3 positional arguments but 5 were given")
	case given(fourth):
		return nil, typeError("list() takes from 0 to 3 positional arguments but 4 were given")
	case given(third) && given(named):
		return nil, typeError("list() got multiple values for argument 'return_metadata'")
	case given(third):
		return third, nil
	case given(named):
		return named, nil
	}
	return false, nil
}

// list4 is Pyro4's list: prefix, regex, metadata_all, metadata_any, return_metadata.
func (s *Server) list4(ctx context.Context, args []any) (any, error) {
	filters := 0
	for i, v := range args {
		if !given(v) {
			args[i] = nil
		}
		if i < 4 && args[i] != nil {
			filters++
		}
	}
	if filters > 1 {
		return nil, errFilters()
	}
	if all, some := args[2], args[3]; truthy(all) || truthy(some) {
		return s.listTagged(ctx, all, some, args[4])
	}
	return s.listMatching(ctx, args[0], args[1], args[4])
}
