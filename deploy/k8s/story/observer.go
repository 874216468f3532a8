package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"
)

//go:embed observer.yaml
var observerManifest string

const (
	observerName   = "story-observer"
	controlAddress = "localhost:9094" // in the pod: only "kubectl exec" gets there
	controlObject  = "PYRO:loadtest.control@" + controlAddress
	program        = "/pyro-cluster" // in the image

	callTimeout     = 5 * time.Second
	registerTimeout = 5 * time.Second
	listTimeout     = 30 * time.Second
)

// observer is the pod from which the story watches: it makes the load, and commands run in it.
type observer struct {
	kube kubectl
	ns   string // the addresses of the name server, as the object servers know them
}

// observerValues are what the manifest leaves open.
type observerValues struct {
	Name, Node, Image, Group, NS, Work, Control string
	Rate                                        float64
	Timeout                                     time.Duration
}

func (v observerValues) manifest() (string, error) {
	t, err := template.New("observer.yaml").Option("missingkey=error").Parse(observerManifest)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, v)
	return b.String(), err
}

// pyro runs the command line in the pod.
func (o observer) pyro(ctx context.Context, args ...string) (string, error) {
	out, err := o.kube.run(ctx, append([]string{"exec", observerName, "--", program}, args...)...)
	return strings.TrimSpace(out), err
}

// asked runs a command that asks the name server.
func (o observer) asked(ctx context.Context, args ...string) (string, error) {
	return o.pyro(ctx, append(args, "--ns", o.ns)...)
}

// phase is what the load test saw in a span of the story.
type phase struct {
	Name   string           `json:"name"`
	From   float64          `json:"from_s"`
	To     float64          `json:"to_s"`
	Good   int64            `json:"good"`
	Failed int64            `json:"failed"`
	Errors map[string]int64 `json:"errors"`
	GapMS  float64          `json:"longest_gap_ms"`
}

// begin begins a phase of the load test and returns the one that ended.
func (o observer) begin(ctx context.Context, name string) (phase, error) {
	var p phase
	out, err := o.pyro(ctx, "call", controlObject, "phase", name, "--string", "--output", "json")
	if err != nil {
		return p, fmt.Errorf("the load test does not answer: %w", err)
	}
	return p, json.Unmarshal([]byte(out), &p)
}

// end ends the load and returns the report of the load test.
func (o observer) end(ctx context.Context, limit time.Duration) (json.RawMessage, error) {
	if _, err := o.pyro(ctx, "call", controlObject, "stop"); err != nil {
		return nil, fmt.Errorf("the load test does not answer: %w", err)
	}
	err := waitFor(ctx, limit, "the load test's report", func(ctx context.Context) (string, error) {
		var p pod
		err := o.kube.get(ctx, &p, "get", "pod", observerName)
		if p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
			return "", err
		}
		return "the load test still runs", err
	})
	if err != nil {
		return nil, err
	}
	log, err := o.kube.run(ctx, "logs", observerName)
	if err != nil {
		return nil, err
	}
	return reportIn(log)
}

// reportIn finds the report in the log of the load test: progress comes before it, and perhaps a verdict behind it.
func reportIn(log string) (json.RawMessage, error) {
	_, text, ok := strings.Cut("\n"+log, "\n{")
	if !ok {
		return nil, errors.New("the load test ended without a report")
	}
	var report json.RawMessage
	if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&report); err != nil {
		return nil, fmt.Errorf("the load test's report: %w", err)
	}
	return report, nil
}

// registerStream starts feeding names to the name server.
func (o observer) registerStream(ctx context.Context) (*stream, error) {
	cmd := o.kube.command(ctx, "exec", "-i", observerName, "--", program,
		"ns", "register", "--from", "-", "--ns", o.ns, "--timeout", registerTimeout.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	return &stream{in, out, cmd.Wait}, cmd.Start()
}

// names lists what is registered below the story's prefix, as of now.
func (o observer) names(ctx context.Context) (map[string]string, error) {
	out, err := o.asked(ctx, "ns", "list", "--prefix", namePrefix, "--output", "json", "--timeout", listTimeout.String())
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Name string `json:"name"`
		URI  string `json:"uri"`
	}
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		return nil, fmt.Errorf("ns list: %w", err)
	}
	names := make(map[string]string, len(rows))
	for _, r := range rows {
		names[r.Name] = r.URI
	}
	return names, nil
}

// leader returns the name of the pod that leads: the first label of the address under which it is known.
func (o observer) leader(ctx context.Context) (string, error) {
	address, err := o.asked(ctx, "cluster", "leader")
	name, _, _ := strings.Cut(address, ".")
	return name, err
}
