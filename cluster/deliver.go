package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// MaxMessage bounds the bytes of a message of [Node.Send] and of its answer.
const MaxMessage = maxCommandBytes

// Send has another node handle a message ([Options].Message) and returns its answer.  Messages of one sender may be handled at the same time, and
// go over a connection of their own: they do not delay what the cluster itself sends.
//
// The error is [ErrUnknownNode], or wraps [ErrUnknownOutcome] if the message may have been handled; otherwise it was not, or the answer is
// the error of who handled it.
func (n *Node) Send(ctx context.Context, node string, body []byte) ([]byte, error) {
	if len(body) > MaxMessage {
		return nil, fmt.Errorf("cluster: message of %d bytes to node %s: want at most %d", len(body), node, MaxMessage)
	}
	if n.dir.identity().Cluster == "" { // the connection would say so for as long as it lasts
		return nil, errors.New("cluster: this node is not part of a cluster yet: it sends no messages")
	}
	to, _ := n.LocalView().Node(node)
	address := n.currentAddress(raft.ServerID(node), raft.ServerAddress(to.RaftAddress))
	if address == "" || to.Removed {
		return nil, fmt.Errorf("%w: %s", ErrUnknownNode, node)
	}
	answer, err := n.messages.call(ctx, string(address), node, requestMessage, body, nil)
	if errors.Is(err, errLost) {
		return nil, fmt.Errorf("%w: message to node %s: %w", ErrUnknownOutcome, node, err)
	}
	return answer, err
}

// handleMessage has a message of another node of this cluster handled.
func (n *Node) handleMessage(ctx context.Context, from *preamble, body []byte) ([]byte, error) {
	own := n.dir.identity().Cluster
	if own == "" || from.cluster != own {
		return nil, fmt.Errorf("cluster: message of node %s, which is not of this node's cluster, or this node is not part of one yet", from.id)
	}
	if n.opts.Message == nil {
		return nil, errors.New("cluster: this node takes no messages")
	}
	answer, err := n.opts.Message(ctx, from.id, body)
	if err == nil && len(answer) > MaxMessage {
		err = fmt.Errorf("cluster: answer of %d bytes: want at most %d", len(answer), MaxMessage)
	}
	return answer, err
}
