package naming

import (
	"context"
	"errors"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// NodeInfo is what Admin tells of a node.
type NodeInfo struct {
	ID          string `json:"id" pyro:"id"`
	PyroAddress string `json:"pyro" pyro:"pyro"`
	RaftAddress string `json:"raft" pyro:"raft"`
	HTTPAddress string `json:"http" pyro:"http"`
	Role        string `json:"role" pyro:"role"` // "leader", "voter", "nonvoter"
	Version     string `json:"version" pyro:"version"`
}

// RoleLeader is the [NodeInfo].Role of the node that leads.
const RoleLeader = "leader"

// ErrUnknownNode is a node id that no node has.  Implementations of [Admin] wrap it, and a [Client] returns it.
var ErrUnknownNode = errors.New("naming: unknown node")

const textUnknownNode = "unknown node: "

// Admin is what the node's cluster can do for an operator.
type Admin interface {
	Nodes(ctx context.Context) ([]NodeInfo, error)
	TransferLeadership(ctx context.Context, to string) error // to: a node id, or empty for the best choice
	RemoveNode(ctx context.Context, id string) error
}

// AdminServant returns the object to register under [AdminID]: nodes() is a list of dicts, leader() one of them or None;
// transfer(to=None) and remove(id) return None.  An unknown node is a NamingError.
func AdminServant(a Admin) *core.Servant {
	s := adminServant{a}
	return &core.Servant{Class: "Cluster", Methods: []core.Method{
		{Name: "nodes", Contract: core.ContractReadOnly, Func: s.nodes},
		{Name: "leader", Contract: core.ContractReadOnly, Func: s.leader},
		{Name: "transfer", Params: []core.Param{{Name: "to", Optional: true}}, Func: s.transfer},
		{Name: "remove", Params: []core.Param{{Name: "id"}}, Func: s.remove},
	}}
}

type adminServant struct{ admin Admin }

func (s adminServant) nodes(ctx context.Context, _ []any) (any, error) {
	nodes, err := s.admin.Nodes(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	list := make([]any, len(nodes))
	for i, n := range nodes {
		list[i] = n.dict()
	}
	return list, nil
}

func (s adminServant) leader(ctx context.Context, _ []any) (any, error) {
	nodes, err := s.admin.Nodes(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	for _, n := range nodes {
		if n.Role == RoleLeader {
			return n.dict(), nil
		}
	}
	return nil, nil
}

func (n NodeInfo) dict() map[string]any {
	return map[string]any{
		"id": n.ID, "pyro": n.PyroAddress, "raft": n.RaftAddress, "http": n.HTTPAddress, "role": n.Role, "version": n.Version,
	}
}

func (s adminServant) transfer(ctx context.Context, args []any) (any, error) {
	to, err := optionalText("to", args[0])
	if err != nil {
		return nil, err
	}
	return nil, adminError(s.admin.TransferLeadership(ctx, to), to)
}

func (s adminServant) remove(ctx context.Context, args []any) (any, error) {
	id, err := nameArg("id", args[0])
	if err != nil {
		return nil, err
	}
	return nil, adminError(s.admin.RemoveNode(ctx, id), id)
}

// adminError is an error of an operation that may have begun, so the caller is not sent to another node.
func adminError(err error, node string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnknownNode):
		return core.NamingError.New("%s%s", textUnknownNode, node)
	case isRemote(err):
		return err
	}
	return core.PyroError.New("%v", err)
}

// Nodes returns the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context) ([]NodeInfo, error) {
	var nodes []NodeInfo
	err := c.ask(ctx, c.admin, "nodes", &nodes)
	return nodes, err
}

// TransferLeadership makes the node of that id the leader, or the one that is most up to date if to is empty.  The error is
// [ErrUnknownNode] if there is none of that id.  The call is not repeated when its outcome is unknown.
func (c *Client) TransferLeadership(ctx context.Context, to string) error {
	return c.ask(ctx, c.admin, "transfer", nil, to)
}

// RemoveNode takes a node out of the cluster for good.  The error is [ErrUnknownNode] if there is none of that id.  The call is not
// repeated when its outcome is unknown.
func (c *Client) RemoveNode(ctx context.Context, id string) error {
	return c.ask(ctx, c.admin, "remove", nil, id)
}
