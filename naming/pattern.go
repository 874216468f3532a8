package naming

import (
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/pyre"
)

const maxMatchTime = 5 * time.Second

// pattern is a regular expression of Python that names are filtered by.
type pattern struct{ *pyre.Pattern }

// compile returns the NamingError that Pyro's name server raises for a bad expression.
func compile(expr string) (pattern, error) {
	p, err := pyre.Compile(expr)
	if err != nil {
		return pattern{}, core.NamingError.New("invalid regex: %v", err)
	}
	return pattern{p}, nil
}

// filter returns those of names that match.
func (p pattern) filter(names []string) ([]string, error) {
	match := p.timed()
	var found []string
	for _, name := range names {
		ok, err := match(name)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, name)
		}
	}
	return found, nil
}

// timed returns a matcher that gives up when its calls take too long in sum.
func (p pattern) timed() func(name string) (bool, error) {
	deadline, calls := time.Now().Add(maxMatchTime), 0
	return func(name string) (bool, error) {
		if calls++; calls%256 == 0 && time.Now().After(deadline) {
			return false, core.NamingError.New("invalid regex: matching takes more than %v", maxMatchTime)
		}
		return p.Match(name), nil
	}
}
