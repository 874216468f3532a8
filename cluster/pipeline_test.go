package cluster

import (
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestPipelineEndsWhenRefused sends as raft does after it has stopped taking answers because a follower refused: that must fail soon.
// With raft's own pipeline the third send waits for ever.
func TestPipelineEndsWhenRefused(t *testing.T) {
	t.Parallel()
	remote, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, time.Minute, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	local, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, time.Minute, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	stop := make(chan struct{})
	answering := make(chan struct{})
	go func() {
		defer close(answering)
		for n := 0; ; n++ {
			select {
			case rpc := <-remote.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Success: n == 0}, nil)
			case <-stop:
				return
			}
		}
	}()
	defer func() { close(stop); <-answering }()

	inner, err := local.AppendEntriesPipeline("remote", remote.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	p := newPipeline(inner)
	defer p.Close()
	send := func() error {
		_, err := p.AppendEntries(&raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{})
		return err
	}
	for _, success := range []bool{true, false} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		if f := <-p.Consumer(); f.Error() != nil || f.Response().Success != success {
			t.Fatalf("answer: %+v, %v; want success %t", f.Response(), f.Error(), success)
		}
	}
	sent := make(chan error, 1)
	go func() {
		for {
			if err := send(); err != nil {
				sent <- err
				return
			}
		}
	}()
	select {
	case <-sent:
	case <-time.After(limit):
		t.Error("a send after a refusal waits for ever")
		inner.Close()
		<-sent
	}
}
