// Mkimage builds the program and writes a container image with it, as an archive that "docker load", "podman load" and "ctr images import" read.
// It needs no container engine and no network.  "make image" runs it; Containerfile makes the same image with an engine.
//
// The same source, version, SOURCE_DATE_EPOCH and Go toolchain make the same archive, byte for byte.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// options are what the user says.
type options struct {
	tag     name.Tag
	arch    string
	out     string
	version string
	created time.Time
}

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore) // a second signal ends it at once
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "mkimage:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

var errUsage = errors.New("wrong usage")

// run makes the image and prints its name and digest.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	opts, err := parseOptions(args, getenv, stderr)
	if err != nil {
		return err
	}
	program, err := build(ctx, opts)
	if err != nil {
		return err
	}
	img, err := newImage(opts, program)
	if err != nil {
		return err
	}
	if err := writeFile(opts.out, func(w io.Writer) error { return writeArchive(w, img, opts.tag) }); err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s %s linux/%s %s\n", opts.out, opts.tag, opts.arch, digest)
	return nil
}

// architectures are those for which Go and container engines have the same name, of the 64-bit ones.
var architectures = []string{"amd64", "arm64", "loong64", "ppc64le", "riscv64", "s390x"}

func parseOptions(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("mkimage", flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is one line
	f.StringVar(&o.out, "o", "", "`file` to write")
	tag := f.String("name", "localhost/pyro-cluster:devel", "`name` of the image, with a tag")
	f.StringVar(&o.arch, "arch", "amd64", "processor: "+strings.Join(architectures, ", "))
	f.StringVar(&o.version, "version", "devel", "of the program")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stderr)
		f.Usage()
		return o, err
	}
	if err == nil {
		err = o.check(f.Args(), *tag, getenv("SOURCE_DATE_EPOCH"))
	}
	if err != nil {
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	return o, nil
}

// check refuses what cannot work, and completes the options.
func (o *options) check(args []string, tag, epoch string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("got the argument %q, want flags alone", args[0])
	case o.out == "":
		return errors.New("no -o: name the file to write")
	case !slices.Contains(architectures, o.arch):
		return fmt.Errorf("-arch is %q: give one of %s", o.arch, strings.Join(architectures, ", "))
	case o.version == "" || strings.ContainsAny(o.version, " \t\r\n'\""):
		return fmt.Errorf("-version is %q: give one word, such as v1.2.3", o.version)
	}
	var err error
	if o.tag, err = name.NewTag(tag); err != nil || !strings.HasSuffix(tag, ":"+o.tag.TagStr()) {
		return fmt.Errorf("-name is %q: give name:tag, such as registry.example.org/pyro-cluster:v1.2.3", tag)
	}
	// The reproducible-builds.org convention.
	seconds := int64(0)
	if epoch != "" {
		if seconds, err = strconv.ParseInt(epoch, 10, 64); err != nil || seconds < 0 {
			return fmt.Errorf("SOURCE_DATE_EPOCH is %q: give seconds since 1970, or nothing", epoch)
		}
	}
	o.created = time.Unix(seconds, 0).UTC()
	return nil
}

// build compiles the program for the image: static, and the same wherever the source lies.
func build(ctx context.Context, o options) ([]byte, error) {
	dir, err := os.MkdirTemp("", "mkimage-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "pyro-cluster")
	// Without the state of the working tree: it is no input, and -version says what was built.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+o.version,
		"-o", path, "github.com/pyro-cluster/pyro-cluster/cmd/pyro-cluster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.arch, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("build for linux/%s: %w: %s", o.arch, err, strings.TrimSpace(string(out)))
	}
	return os.ReadFile(path)
}

// writeFile writes a file that is either complete or not there.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		if e, ok := errors.AsType[*os.PathError](err); ok {
			return fmt.Errorf("write %s: %w", path, e.Err) // the temporary name says nothing
		}
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
