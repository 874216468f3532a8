package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// steps are the story, after the installation.
func (s *story) steps() []step {
	return []step{
		{key: "call", name: "register and call", planned: true, run: s.registerAndCall},
		{key: "update-servers", name: "rolling update of the object servers", planned: true, run: func(ctx context.Context) (string, error) { return s.update(ctx, s.servers) }},
		{key: "update-nodes", name: "rolling update of the nodes", planned: true, run: func(ctx context.Context) (string, error) { return s.update(ctx, s.nodes) }},
		{key: "kill-leader", name: "kill the leader's pod", run: s.killLeader},
		{key: "crash-node", name: "crash a Kubernetes node", needs: []command{s.opts.nodeCrash, s.opts.nodeStart}, run: s.crashNode},
		{key: "drain", name: "drain a node", planned: true, run: s.drain},
		{key: "delete-all", name: "delete all pods at once", run: s.deleteAll},
		{key: "scale-up", name: "scale the object servers up", planned: true, run: func(ctx context.Context) (string, error) { return s.scale(ctx, 2) }},
		{key: "scale-down", name: "scale the object servers down", planned: true, run: func(ctx context.Context) (string, error) { return s.scale(ctx, 1) }},
	}
}

// chosen are the steps with these keys, in the story's order; all if there are no keys.
func chosen(steps []step, keys []string) ([]step, error) {
	if len(keys) == 0 {
		return steps, nil
	}
	var names []string
	for _, st := range steps {
		names = append(names, st.key)
	}
	for _, key := range keys {
		if !slices.Contains(names, key) {
			return nil, fmt.Errorf("-only has %q: give some of %s", key, strings.Join(names, ","))
		}
	}
	return slices.DeleteFunc(steps, func(st step) bool { return !slices.Contains(keys, st.key) }), nil
}

// ready waits until nodes and object servers are all ready.
func (s *story) ready(ctx context.Context) error {
	for _, w := range []workload{s.nodes, s.servers} {
		if err := s.kube.settled(ctx, s.opts.limit, w); err != nil {
			return err
		}
	}
	return nil
}

// registerAndCall does by hand what the load does a thousand times: a name, its URI, a call of the group.
func (s *story) registerAndCall(ctx context.Context) (string, error) {
	const name, uri = "hello.story", "PYRO:hello@localhost:1"
	if _, err := s.observer.asked(ctx, "ns", "register", name, uri, "--force"); err != nil {
		return "", err
	}
	for _, try := range []struct {
		want string
		args []string
	}{
		{uri, []string{"ns", "lookup", name}},
		{"3", []string{"call", "PYRONAME:" + s.servers.flag("group"), "add", "1", "2"}},
	} {
		got, err := s.observer.asked(ctx, try.args...)
		if err != nil {
			return "", err
		}
		if got != try.want {
			return "", fmt.Errorf("%s: got %q, want %q", strings.Join(try.args, " "), got, try.want)
		}
	}
	return "", nil
}

// update replaces all pods of a workload, as a new image or a new setting does.
func (s *story) update(ctx context.Context, w workload) (string, error) {
	if _, err := s.kube.run(ctx, "rollout", "restart", w.ref()); err != nil {
		return "", err
	}
	if _, err := s.kube.run(ctx, "rollout", "status", w.ref(), "--timeout="+s.opts.limit.String()); err != nil {
		return "", err
	}
	return "", s.ready(ctx) // with those that are still ending
}

// podOf returns one of the workload's pods by its name.
func (s *story) podOf(ctx context.Context, w workload, name string) (pod, error) {
	pods, err := s.kube.pods(ctx, w.selector())
	if err != nil {
		return pod{}, err
	}
	i := slices.IndexFunc(pods, func(p pod) bool { return p.Meta.Name == name })
	if i < 0 {
		return pod{}, fmt.Errorf("%s has no pod %s", w.ref(), name)
	}
	return pods[i], nil
}

// killLeader kills the pod that leads the nodes.
func (s *story) killLeader(ctx context.Context) (string, error) {
	name, err := s.observer.leader(ctx)
	if err != nil {
		return "", err
	}
	victim, err := s.podOf(ctx, s.nodes, name)
	if err != nil {
		return "", err
	}
	s.say("  %s leads", name)
	how, err := s.killPod(ctx, victim)
	if err != nil {
		return "", err
	}
	err = waitFor(ctx, s.opts.limit, "another "+name, func(ctx context.Context) (string, error) {
		now, err := s.podOf(ctx, s.nodes, name)
		if err == nil && now.Meta.UID == victim.Meta.UID && now.restarts() == victim.restarts() {
			return "it is still the old one", nil
		}
		return "", err
	})
	if err != nil {
		return how, err
	}
	return how, s.ready(ctx)
}

// killPod ends a pod's program as abruptly as it can, and says how.
func (s *story) killPod(ctx context.Context, p pod) (how string, err error) {
	if s.opts.podKill.text == "" || len(p.Status.Containers) == 0 {
		_, err := s.kube.run(ctx, "delete", "pod", p.Meta.Name, "--force", "--grace-period=0")
		return "delete --force", err
	}
	_, id, _ := strings.Cut(p.Status.Containers[0].ContainerID, "://")
	return "kill -9", s.opts.podKill.run(ctx, p.Spec.NodeName, id)
}

// victims are the Kubernetes nodes that may be crashed and drained: a node of ours runs there, and the observer does not.  The first one has the
// leader, which has to move if it is beside the observer.
func (s *story) victims(ctx context.Context) ([]string, error) {
	var pods []pod
	var leader string
	err := waitFor(ctx, s.opts.limit, "a leader that is not beside the observer", func(ctx context.Context) (wait string, err error) {
		if leader, err = s.observer.leader(ctx); err != nil {
			return "", err
		}
		if pods, err = s.kube.pods(ctx, s.nodes.selector()); err != nil {
			return "", err
		}
		if !slices.ContainsFunc(pods, func(p pod) bool { return p.Meta.Name == leader && p.Spec.NodeName == s.watch }) {
			return "", nil
		}
		s.say("  %s leads on %s, which has to stay: handing over", leader, s.watch)
		_, err = s.observer.asked(ctx, "cluster", "transfer")
		return leader + " leads there", err
	})
	if err != nil {
		return nil, err
	}
	names := victimsOf(pods, s.watch, leader)
	if len(names) < 2 {
		return nil, fmt.Errorf("%s runs on %d nodes beside that of the observer, want 2", s.nodes.ref(), len(names))
	}
	return names, nil
}

func victimsOf(pods []pod, watch, leader string) []string {
	var names []string
	for _, p := range pods {
		switch node := p.Spec.NodeName; {
		case node == "" || node == watch || slices.Contains(names, node):
		case p.Meta.Name == leader:
			names = append([]string{node}, names...)
		default:
			names = append(names, node)
		}
	}
	return names
}

// crashNode takes the power from a Kubernetes node until Kubernetes has seen it, and gives it back.
func (s *story) crashNode(ctx context.Context) (string, error) {
	names, err := s.victims(ctx)
	if err != nil {
		return "", err
	}
	name := names[0]
	s.say("  crashing %s", name)
	started := s.onUndo("starting "+name+" again", func(ctx context.Context) error { return s.opts.nodeStart.run(ctx, name) })
	if err := s.opts.nodeCrash.run(ctx, name); err != nil {
		return "", err
	}
	if err := s.nodeIs(ctx, name, false); err != nil {
		return "", err
	}
	s.say("  %s is not ready; starting it again", name)
	if err := s.opts.nodeStart.run(ctx, name); err != nil {
		return "", err
	}
	started()
	if err := s.nodeIs(ctx, name, true); err != nil {
		return "", err
	}
	return name, s.ready(ctx)
}

// nodeIs waits until Kubernetes knows that a node is ready, or not.
func (s *story) nodeIs(ctx context.Context, name string, want bool) error {
	return waitFor(ctx, s.opts.limit, "node "+name, func(ctx context.Context) (string, error) {
		var n kubeNode
		err := s.kube.get(ctx, &n, "get", "node", name)
		if got := isTrue(n.Status.Conditions, ready); got != want {
			return fmt.Sprintf("ready: %v, want %v", got, want), err
		}
		return "", err
	})
}

// storyLabel is on the pods that a drain may evict; kustomization.yaml puts it there.
const storyLabel = "pyro-cluster/story=yes"

// drainTimeout is long for evictions and short beside a story.
const (
	drainTimeout   = 2 * time.Minute
	refusedTimeout = time.Second // the first answer is the one that counts
)

// drain drains a node.  While the node of ours that was there is away, a second drain has to be refused; then both are open again.
func (s *story) drain(ctx context.Context) (string, error) {
	names, err := s.victims(ctx)
	if err != nil {
		return "", err
	}
	first, second := names[0], names[1]
	kept, err := s.podOn(ctx, second)
	if err != nil {
		return "", err
	}
	s.say("  draining %s, then %s", first, second)
	if err := s.drainNode(ctx, first, drainTimeout); err != nil {
		return "", err
	}
	refused := s.refusedDrain(ctx, second, kept)
	for _, name := range []string{second, first} {
		if _, err := s.kube.run(ctx, "uncordon", name); err != nil {
			return "", errors.Join(refused, err)
		}
	}
	if err := errors.Join(refused, s.ready(ctx)); err != nil {
		return "", err
	}
	return "the second drain was refused", nil
}

// podOn returns our node's pod on a Kubernetes node.
func (s *story) podOn(ctx context.Context, node string) (pod, error) {
	pods, err := s.kube.pods(ctx, s.nodes.selector())
	if err != nil {
		return pod{}, err
	}
	i := slices.IndexFunc(pods, func(p pod) bool { return p.Spec.NodeName == node })
	if i < 0 {
		return pod{}, fmt.Errorf("%s has no pod on %s", s.nodes.ref(), node)
	}
	return pods[i], nil
}

// drainNode drains a Kubernetes node of the story's pods: those of others stay.
func (s *story) drainNode(ctx context.Context, name string, timeout time.Duration) error {
	s.onUndo("uncordoning "+name, func(ctx context.Context) error {
		_, err := s.kube.run(ctx, "uncordon", name)
		return err
	})
	_, err := s.kube.run(ctx, "drain", name, "--ignore-daemonsets", "--delete-emptydir-data",
		"--pod-selector="+storyLabel, "--timeout="+timeout.String())
	return err
}

// refusedDrain drains a node whose pod the budget keeps.
func (s *story) refusedDrain(ctx context.Context, name string, kept pod) error {
	err := s.drainNode(ctx, name, refusedTimeout)
	if err == nil {
		return fmt.Errorf("the drain of a second node, %s, was not refused by the PodDisruptionBudget", name)
	}
	if e, ok := errors.AsType[*kubectlError](err); !ok || !refusedFor(e.stderr, kept.Meta.Name) {
		return err
	}
	now, err := s.podOf(ctx, s.nodes, kept.Meta.Name)
	if err == nil && (now.Meta.UID != kept.Meta.UID || !now.ready()) {
		return fmt.Errorf("pod %s did not stay, although its drain was refused", kept.Meta.Name)
	}
	return err
}

// refusedFor tells whether a drain says that a pod's budget refused it.
func refusedFor(stderr, pod string) bool {
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, `"`+pod+`"`) && strings.Contains(line, "disruption budget") {
			return true
		}
	}
	return false
}

// deleteAll deletes the pods of all nodes and object servers at once.
func (s *story) deleteAll(ctx context.Context) (string, error) {
	before, err := s.kube.pods(ctx, s.nodes.selector())
	if err != nil {
		return "", err
	}
	for _, w := range []workload{s.nodes, s.servers} {
		if _, err := s.kube.run(ctx, "delete", "pods", "--selector", w.selector(), "--wait=false"); err != nil {
			return "", err
		}
	}
	if err := s.replaced(ctx, before); err != nil {
		return "", err
	}
	if err := s.ready(ctx); err != nil {
		return "", err
	}
	after, err := s.kube.pods(ctx, s.nodes.selector())
	return fmt.Sprintf("%d of %d with another IP", otherIPs(before, after), len(after)), err
}

// replaced waits until none of these pods is there any more.
func (s *story) replaced(ctx context.Context, old []pod) error {
	return waitFor(ctx, s.opts.limit, s.nodes.ref(), func(ctx context.Context) (string, error) {
		now, err := s.kube.pods(ctx, s.nodes.selector())
		for _, p := range now {
			if slices.ContainsFunc(old, func(o pod) bool { return o.Meta.UID == p.Meta.UID }) {
				return "the old " + p.Meta.Name + " is still there", err
			}
		}
		return "", err
	})
}

func otherIPs(before, after []pod) int {
	n := 0
	for _, b := range before {
		for _, a := range after {
			if a.Meta.Name == b.Meta.Name && a.Status.PodIP != b.Status.PodIP {
				n++
			}
		}
	}
	return n
}

// scale gives the object servers factor times the replicas that they were installed with.
func (s *story) scale(ctx context.Context, factor int) (string, error) {
	replicas := factor * s.servers.Spec.Replicas
	_, err := s.kube.run(ctx, "scale", s.servers.ref(), fmt.Sprintf("--replicas=%d", replicas))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("to %d", replicas), s.ready(ctx)
}
