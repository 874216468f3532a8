package cluster

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline closes raft's pipeline when a follower refuses an entry or does not answer.  Raft stops to take answers then
// (pipelineDecode), but it may go on to send, and with nobody who takes the answers the next but one send waits for ever: that
// follower gets no entry again while this node leads, and the node cannot be stopped.  A pipeline that is closed fails the send,
// and raft goes on without one.  (Raft v1.7.3: replication.go, pipelineReplicate; net_transport.go, netPipeline.)
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	closed  chan struct{}
	close   func()
}

// newPipeline takes over p.  Raft closes every pipeline, which ends the goroutine.
func newPipeline(p raft.AppendPipeline) *pipeline {
	closed := make(chan struct{})
	w := &pipeline{AppendPipeline: p, answers: make(chan raft.AppendFuture), closed: closed, close: sync.OnceFunc(func() { close(closed) })}
	go w.forward()
	return w
}

func (p *pipeline) forward() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			refused := f.Error() != nil || !f.Response().Success
			select {
			case p.answers <- f:
			case <-p.closed:
				return
			}
			if refused {
				p.AppendPipeline.Close()
				return
			}
		case <-p.closed:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.close()
	return p.AppendPipeline.Close()
}
