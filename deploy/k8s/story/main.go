// Story installs pyro-cluster on the Kubernetes of KUBECONFIG and does to it what happens to programs there: updates, kills, a node that crashes,
// drains, scaling, while a load test calls and names are registered.  It prints a table of what callers noticed, and exits with 1 if a call
// failed in a step that was planned or a registration got lost in any.  "make test-kube" runs it; docs/kubernetes-story.md tells how to give it
// what it needs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cleanupTimeout bounds what is done after the end, each part of it.
const cleanupTimeout = 2 * time.Minute

// options are what the user says.
type options struct {
	kubectl   string // program
	manifests string // folder of a kustomization
	image     string // empty: that of the manifests
	archive   string
	namespace string
	out       string // folder for results; empty: none
	work      string
	only      []string
	rate      float64       // calls a second
	names     float64       // registrations a second, at most
	limit     time.Duration // for anything that is waited for
	keep      bool

	imageLoad, nodeCrash, nodeStart, podKill command
}

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // a second signal ends it at once
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "story:", strings.Join(strings.Fields(err.Error()), " "))
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

var errUsage = errors.New("wrong usage")

func parseOptions(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	var o options
	var only string
	f := flag.NewFlagSet("story", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.kubectl, "kubectl", "kubectl", "`program` to use; it finds the cluster as always, by KUBECONFIG for instance")
	f.StringVar(&o.manifests, "manifests", "deploy/k8s/story", "folder of the kustomization to install")
	f.StringVar(&o.image, "image", "", "image of all containers, if not that of the manifests")
	f.StringVar(&o.archive, "archive", "", "archive of the image, for IMAGE_LOAD")
	f.StringVar(&o.namespace, "namespace", "pyro-story", "namespace to make, and to remove in the end")
	f.StringVar(&o.out, "out", "", "folder for the table (story.md, story.json), the load test's report, and diagnostics after a failure")
	f.StringVar(&o.work, "work", "add=3,echo:1KiB=1", "what is called, as \"pyro-cluster loadtest run --work\" takes it")
	f.StringVar(&only, "only", "", "run these `steps` alone, by commas")
	f.Float64Var(&o.rate, "rate", 200, "calls a second")
	f.Float64Var(&o.names, "names", 25, "registrations a second, at most")
	f.DurationVar(&o.limit, "limit", 5*time.Minute, "how long to wait for anything")
	f.BoolVar(&o.keep, "keep", false, "do not remove the namespace in the end")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	if err := o.check(f.Args()); err != nil {
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if err := o.commands(getenv); err != nil {
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	return o, nil
}

// Bounds that keep a slip of the finger from taking a cluster down.
const (
	maxRate  = 100_000
	maxNames = 1000
)

func (o *options) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("got the argument %q, want flags alone", args[0])
	case !(o.rate > 0 && o.rate <= maxRate):
		return fmt.Errorf("-rate is %g: give 1 to %d", o.rate, maxRate)
	case !(o.names > 0 && o.names <= maxNames):
		return fmt.Errorf("-names is %g: give 1 to %d", o.names, maxNames)
	case o.limit < 10*time.Second:
		return fmt.Errorf("-limit is %v: give 10s or more", o.limit)
	case o.namespace == "" || o.namespace == "default" || strings.HasPrefix(o.namespace, "kube-"):
		return fmt.Errorf("-namespace is %q: it is removed in the end, so give one of the story's own", o.namespace)
	}
	_, err := chosen((&story{}).steps(), o.only)
	return err
}

func (o *options) commands(getenv func(string) string) error {
	for _, c := range []struct {
		to       *command
		variable string
		of       []string
	}{
		{&o.imageLoad, "IMAGE_LOAD", []string{"the archive"}},
		{&o.nodeCrash, "NODE_CRASH", []string{"the node"}},
		{&o.nodeStart, "NODE_START", []string{"the node"}},
		{&o.podKill, "POD_KILL", []string{"the node", "the container's id"}},
	} {
		var err error
		if *c.to, err = parseCommand(c.variable, getenv(c.variable), c.of...); err != nil {
			return err
		}
	}
	if o.imageLoad.text == "" {
		return nil
	}
	if o.archive == "" {
		return errors.New("IMAGE_LOAD without -archive: name the image's archive")
	}
	return checkFile("-archive", o.archive)
}

// run is the whole program.  Whatever happens, what it did to the cluster is undone before it returns.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	opts, err := parseOptions(args, getenv, stderr)
	if err != nil {
		return err
	}
	if opts.out != "" {
		if err := os.MkdirAll(opts.out, 0o755); err != nil {
			return err
		}
	}
	kube, version, err := findKubectl(ctx, opts.kubectl, opts.namespace)
	if err != nil {
		return err
	}
	s := &story{opts: opts, kube: kube, out: stderr, began: time.Now()}
	s.registry = newRegistrar(time.Duration(float64(time.Second)/opts.names), 2*registerTimeout, func(ctx context.Context) (*stream, error) {
		return s.observer.registerStream(ctx)
	})
	res := &result{Started: s.began.UTC(), Kubernetes: version, Rate: opts.rate, Names: opts.names, Doubts: []string{}}
	report, err := s.play(ctx, res)
	res.judge(err)
	if !res.OK && s.installed {
		s.sayDiagnosed(ctx)
	}
	return errors.Join(err, res.err(), s.save(res, report, stdout), s.cleanUp(ctx))
}

// play installs and tells the story.  The load test's report is nil if it did not come to its end.
func (s *story) play(ctx context.Context, res *result) (json.RawMessage, error) {
	if err := s.install(ctx, res); err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	res.Image = s.servers.Spec.Template.Spec.Containers[0].Image
	steps, err := chosen(s.steps(), s.opts.only)
	if err != nil {
		return nil, err
	}
	if err := s.tell(ctx, s.observer, steps, res); err != nil {
		return nil, err
	}
	report, err := s.observer.end(ctx, s.opts.limit)
	if err != nil {
		return nil, err
	}
	res.Doubts, err = doubtsIn(report)
	return report, err
}

// cleanUp undoes what the story did, also after Ctrl-C.
func (s *story) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*cleanupTimeout)
	defer cancel()
	return s.putRight(ctx)
}

// sayDiagnosed keeps what tells why the story went wrong, before it is gone.
func (s *story) sayDiagnosed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	dir := filepath.Join(s.opts.out, "diagnostics")
	if s.opts.out == "" {
		var err error
		if dir, err = os.MkdirTemp("", "story-diagnostics-"); err != nil {
			s.say("no diagnostics: %v", err)
			return
		}
	}
	if err := s.diagnose(ctx, dir); err != nil {
		s.say("diagnostics are not complete: %v", err)
	}
	s.say("events, objects and logs are in %s", dir)
}

// save prints the table, and writes the results to files.
func (s *story) save(res *result, report json.RawMessage, stdout io.Writer) error {
	if err := res.writeTable(stdout); err != nil || s.opts.out == "" {
		return err
	}
	errs := []error{
		writeFile(filepath.Join(s.opts.out, "story.json"), res.writeJSON),
		writeFile(filepath.Join(s.opts.out, "story.md"), res.writeMarkdown),
	}
	if report != nil {
		errs = append(errs, os.WriteFile(filepath.Join(s.opts.out, "loadtest.json"), report, 0o644))
	}
	return errors.Join(errs...)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
