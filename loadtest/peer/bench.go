package peer

import "context"

// The program pyro-cluster imports this package, so it cannot be what makes its code anew.
//go:generate go test ../../internal/gen -run ^TestGolden$ -update

// bench is what the server of [Pyro] offers, under names that are as long as those of other systems.
type bench interface {
	Add(ctx context.Context, a, b int64) (int64, error)
	//pyro:name text
	EchoString(ctx context.Context, s string) (string, error)
	//pyro:name blob
	EchoBytes(ctx context.Context, p []byte) ([]byte, error)
	//pyro:oneway
	Note(ctx context.Context, v int64) error
	Received(ctx context.Context) (int64, error)
}

// object implements bench.
type object struct{ s *Service }

func (o object) Add(_ context.Context, a, b int64) (int64, error)       { return o.s.Add(a, b), nil }
func (o object) EchoString(_ context.Context, s string) (string, error) { return s, nil }
func (o object) EchoBytes(_ context.Context, p []byte) ([]byte, error)  { return p, nil }
func (o object) Received(context.Context) (int64, error)                { return o.s.Received(), nil }
func (o object) Note(context.Context, int64) error {
	o.s.Note()
	return nil
}
