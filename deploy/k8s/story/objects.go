package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What the story reads of Kubernetes' objects.
type (
	meta struct {
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	}
	condition struct {
		Type   string `json:"type"`
		Status string `json:"status"`
	}
	pod struct {
		Meta meta `json:"metadata"`
		Spec struct {
			NodeName string `json:"nodeName"`
		} `json:"spec"`
		Status struct {
			PodIP      string      `json:"podIP"`
			Phase      string      `json:"phase"`
			Conditions []condition `json:"conditions"`
			Containers []struct {
				ContainerID  string `json:"containerID"`
				RestartCount int    `json:"restartCount"`
			} `json:"containerStatuses"`
		} `json:"status"`
	}
	kubeNode struct {
		Meta meta `json:"metadata"`
		Spec struct {
			Unschedulable bool `json:"unschedulable"`
			Taints        []struct {
				Effect string `json:"effect"`
			} `json:"taints"`
		} `json:"spec"`
		Status struct {
			Conditions []condition `json:"conditions"`
		} `json:"status"`
	}
	workload struct {
		Kind string `json:"kind"`
		Meta meta   `json:"metadata"`
		Spec struct {
			Replicas int `json:"replicas"`
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			Template struct {
				Spec struct {
					Containers []struct {
						Image string   `json:"image"`
						Args  []string `json:"args"`
					} `json:"containers"`
				} `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	list[T any] struct {
		Items []T `json:"items"`
	}
)

const ready = "Ready"

func isTrue(conditions []condition, kind string) bool {
	return slices.ContainsFunc(conditions, func(c condition) bool { return c.Type == kind && c.Status == "True" })
}

func (p pod) ready() bool {
	return p.Meta.DeletionTimestamp == nil && isTrue(p.Status.Conditions, ready)
}

// restarts is how often containers of the pod were started again.
func (p pod) restarts() int {
	n := 0
	for _, c := range p.Status.Containers {
		n += c.RestartCount
	}
	return n
}

// takesPods tells whether pods without tolerations can run on the node.
func (n kubeNode) takesPods() bool {
	tainted := false
	for _, t := range n.Spec.Taints {
		tainted = tainted || t.Effect == "NoSchedule" || t.Effect == "NoExecute"
	}
	return isTrue(n.Status.Conditions, ready) && !n.Spec.Unschedulable && !tainted
}

// ref is how kubectl is told of it.
func (w workload) ref() string { return strings.ToLower(w.Kind) + "/" + w.Meta.Name }

// selector selects its pods.
func (w workload) selector() string {
	var parts []string
	for key, value := range w.Spec.Selector.MatchLabels {
		parts = append(parts, key+"="+value)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// flag is the value of --name=value among the arguments of its first container.
func (w workload) flag(name string) string {
	if len(w.Spec.Template.Spec.Containers) == 0 {
		return ""
	}
	args := w.Spec.Template.Spec.Containers[0].Args
	for i, a := range args {
		if value, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return value
		}
		if a == "--"+name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// pods lists the pods that a selector selects.
func (k kubectl) pods(ctx context.Context, selector string) ([]pod, error) {
	var l list[pod]
	err := k.get(ctx, &l, "get", "pods", "--selector", selector)
	return l.Items, err
}

func (k kubectl) nodes(ctx context.Context) ([]kubeNode, error) {
	var l list[kubeNode]
	err := k.get(ctx, &l, "get", "nodes")
	return l.Items, err
}

// one returns the only workload of a kind.
func (k kubectl) one(ctx context.Context, kind string) (workload, error) {
	var l list[workload]
	if err := k.get(ctx, &l, "get", kind); err != nil {
		return workload{}, err
	}
	if len(l.Items) != 1 {
		return workload{}, fmt.Errorf("the manifests have %d of the kind %s: the story wants one", len(l.Items), kind)
	}
	return l.Items[0], nil
}

// pollEvery is how often the story looks for what it waits for.
const pollEvery = 500 * time.Millisecond

// waitFor polls until problem is empty.  The error of one that lasts says what it was.
func waitFor(ctx context.Context, limit time.Duration, what string, problem func(ctx context.Context) (string, error)) error {
	late := fmt.Errorf("not within %v", limit)
	waiting, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := "no answer"
	for {
		text, err := problem(waiting)
		switch {
		case err == nil && text == "":
			return nil
		case err == nil:
			last = text
		case waiting.Err() == nil:
			last = err.Error()
		}
		select {
		case <-tick.C:
		case <-waiting.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%s: %w: %s", what, late, last)
		}
	}
}

// settled waits until a workload has as many pods as it should have, all of them ready, and none that is still ending.
func (k kubectl) settled(ctx context.Context, limit time.Duration, w workload) error {
	return waitFor(ctx, limit, w.ref(), func(ctx context.Context) (string, error) {
		var now workload
		if err := k.get(ctx, &now, "get", w.ref()); err != nil {
			return "", err
		}
		pods, err := k.pods(ctx, w.selector())
		return unsettled(pods, now.Spec.Replicas), err
	})
}

func unsettled(pods []pod, want int) string {
	var waiting []string
	for _, p := range pods {
		switch {
		case p.Meta.DeletionTimestamp != nil:
			waiting = append(waiting, p.Meta.Name+" is ending")
		case !p.ready():
			waiting = append(waiting, p.Meta.Name+" is not ready")
		}
	}
	if len(waiting) > 0 {
		return strings.Join(waiting, ", ")
	}
	if len(pods) != want {
		return fmt.Sprintf("%d pods, want %d", len(pods), want)
	}
	return ""
}
