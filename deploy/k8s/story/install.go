package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// wantNodes is how many Kubernetes nodes have to take pods: each of three nodes of ours wants one of its own.
const wantNodes = 3

// install brings everything up, the load at last, and appends its row to res.
func (s *story) install(ctx context.Context, res *result) error {
	began := time.Now()
	r := &row{Step: "install"}
	res.Steps = append(res.Steps, r)
	if err := s.chooseWatch(ctx, res); err != nil {
		return err
	}
	if err := s.apply(ctx); err != nil {
		return err
	}
	s.say("waiting until %s and %s are ready", s.nodes.ref(), s.servers.ref())
	if err := s.ready(ctx); err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	return s.observe(ctx)
}

// chooseWatch chooses the Kubernetes node for the observer.  The first one with the cluster's DNS is best: a node that is crashed had better not
// take that along, since a cluster's DNS is not what the story is about.
func (s *story) chooseWatch(ctx context.Context, res *result) error {
	nodes, err := s.kube.nodes(ctx)
	if err != nil {
		return err
	}
	nodes = slices.DeleteFunc(nodes, func(n kubeNode) bool { return !n.takesPods() })
	if res.Nodes = len(nodes); len(nodes) < wantNodes {
		return fmt.Errorf("%d nodes of Kubernetes take pods, want %d: add some, or uncordon them", len(nodes), wantNodes)
	}
	var dns list[pod]
	if err := s.kube.get(ctx, &dns, "get", "pods", "--namespace=kube-system", "--selector=k8s-app=kube-dns"); err != nil {
		return err
	}
	s.watch = watchOf(nodes, dns.Items)
	return nil
}

func watchOf(nodes []kubeNode, dns []pod) string {
	for _, n := range nodes {
		if slices.ContainsFunc(dns, func(p pod) bool { return p.Spec.NodeName == n.Meta.Name }) {
			return n.Meta.Name
		}
	}
	return nodes[0].Meta.Name
}

// apply loads the image and applies the manifests in a namespace of the story's own.
func (s *story) apply(ctx context.Context) error {
	if s.opts.imageLoad.text != "" {
		s.say("loading %s", s.opts.archive)
		if err := s.opts.imageLoad.run(ctx, s.opts.archive); err != nil {
			return err
		}
	}
	manifests, err := s.kube.run(ctx, "kustomize", s.opts.manifests)
	if err != nil {
		return err
	}
	if s.opts.image != "" {
		manifests = withImage(manifests, s.opts.image)
	}
	s.say("installing in namespace %s", s.kube.namespace)
	if _, err := s.kube.run(ctx, "create", "namespace", s.kube.namespace); err != nil {
		if strings.Contains(err.Error(), "already exists") {
			return fmt.Errorf("namespace %s exists: remove it, or choose another one with -namespace", s.kube.namespace)
		}
		return err
	}
	s.installed = true
	if !s.opts.keep {
		s.onUndo("removing namespace "+s.kube.namespace, func(ctx context.Context) error {
			_, err := s.kube.run(ctx, "delete", "namespace", s.kube.namespace, "--wait", "--timeout="+cleanupTimeout.String())
			return err
		})
	}
	if _, err := s.kube.feed(ctx, strings.NewReader(manifests), "apply", "--filename=-"); err != nil {
		return err
	}
	if s.nodes, err = s.kube.one(ctx, "statefulset"); err != nil {
		return err
	}
	if s.servers, err = s.kube.one(ctx, "deployment"); err != nil {
		return err
	}
	if s.servers.flag("group") == "" || s.servers.flag("ns") == "" {
		return fmt.Errorf("%s has no --group or no --ns among its arguments", s.servers.ref())
	}
	return nil
}

var imageLine = regexp.MustCompile(`(?m)^( *(?:- )?image: ).*$`)

// withImage puts an image into all containers of manifests.
func withImage(manifests, image string) string {
	quoted, _ := json.Marshal(image) // JSON's strings are YAML's
	return imageLine.ReplaceAllString(manifests, "${1}"+strings.ReplaceAll(string(quoted), "$", "$$"))
}

// observe starts the load.
func (s *story) observe(ctx context.Context) error {
	s.observer = observer{s.kube, s.servers.flag("ns")}
	text, err := observerValues{
		Name: observerName, Node: s.watch, Image: s.servers.Spec.Template.Spec.Containers[0].Image, Group: s.servers.flag("group"), NS: s.observer.ns,
		Work: s.opts.work, Rate: s.opts.rate, Timeout: callTimeout, Control: controlAddress,
	}.manifest()
	if err != nil {
		return err
	}
	s.say("starting the load on %s: %g calls a second", s.watch, s.opts.rate)
	if _, err := s.kube.feed(ctx, strings.NewReader(text), "apply", "--filename=-"); err != nil {
		return err
	}
	err = waitFor(ctx, s.opts.limit, "pod "+observerName, func(ctx context.Context) (string, error) {
		var p pod
		err := s.kube.get(ctx, &p, "get", "pod", observerName)
		if err == nil && p.Status.Phase == "Failed" {
			return "it failed", nil
		}
		if err == nil && !p.ready() {
			return "it is not ready", nil
		}
		return "", err
	})
	if err != nil {
		return err
	}
	return waitFor(ctx, s.opts.limit, "the load", func(ctx context.Context) (string, error) {
		_, err := s.observer.begin(ctx, "begin")
		return "", err
	})
}

// checkFile is for files that are given by name.
func checkFile(flag, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if info.IsDir() {
		return errors.New(flag + ": " + path + " is a folder")
	}
	return nil
}
