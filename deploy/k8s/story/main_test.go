package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func noEnv(string) string { return "" }

func TestOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for _, test := range []struct {
		name   string
		args   []string
		getenv func(string) string
		want   string // behind "wrong usage: "
	}{
		{"an argument", []string{"drain"}, noEnv, `got the argument "drain", want flags alone`},
		{"unknown flag", []string{"-frob"}, noEnv, `flag provided but not defined: -frob`},
		{"no rate", []string{"-rate", "0"}, noEnv, `-rate is 0: give 1 to 100000`},
		{"rate that is no number", []string{"-rate", "NaN"}, noEnv, `-rate is NaN: give 1 to 100000`},
		{"too many names", []string{"-names", "1e9"}, noEnv, `-names is 1e+09: give 1 to 1000`},
		{"no time", []string{"-limit", "1s"}, noEnv, `-limit is 1s: give 10s or more`},
		{"namespace of others", []string{"-namespace", "kube-system"}, noEnv, `-namespace is "kube-system": it is removed in the end, so give one of the story's own`},
		{"default namespace", []string{"-namespace", "default"}, noEnv, `-namespace is "default": it is removed in the end, so give one of the story's own`},
		{"unknown step", []string{"-only", "call,dance"}, noEnv, `-only has "dance": give some of call,update-servers,update-nodes,kill-leader,crash-node,drain,delete-all,scale-up,scale-down`},
		{"command without a place", nil, env("NODE_CRASH", "reboot"), `NODE_CRASH is "reboot", with 0 %s: write one %s for the node`},
		{"load without archive", nil, env("IMAGE_LOAD", "load %s"), `IMAGE_LOAD without -archive: name the image's archive`},
		{"no such archive", []string{"-archive", dir + "/none"}, env("IMAGE_LOAD", "load %s"), `-archive: stat ` + dir + `/none: no such file or directory`},
		{"archive that is a folder", []string{"-archive", dir}, env("IMAGE_LOAD", "load %s"), `-archive: ` + dir + ` is a folder`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseOptions(test.args, test.getenv, new(bytes.Buffer))
			if !errors.Is(err, errUsage) || err.Error() != "wrong usage: "+test.want {
				t.Errorf("got %v\nwant wrong usage: %s", err, test.want)
			}
		})
	}
	o, err := parseOptions([]string{"-only", "call,drain", "-rate", "50"}, env("NODE_CRASH", "crash %s", "POD_KILL", "kill %s %s"), new(bytes.Buffer))
	if err != nil || o.rate != 50 || len(o.only) != 2 || o.nodeCrash.text != "crash %s" || o.podKill.variable != "POD_KILL" || o.nodeStart.text != "" {
		t.Errorf("got %+v, %v", o, err)
	}
}

// fakeName is the name under which this program is a kubectl.
const fakeName = "fake-kubectl"

// fakeMain is a kubectl that notes what it is asked, and answers as a cluster in which pods never become ready.
func fakeMain(dir string, args []string) int {
	asked := strings.Join(args[2:], " ") // without the namespace
	f, err := os.OpenFile(filepath.Join(dir, "asked"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, asked)
		f.Close()
	}
	if err != nil {
		panic(err)
	}
	has := func(file string) bool { _, err := os.Stat(filepath.Join(dir, file)); return err == nil }
	for _, answer := range []struct {
		to, text string
		fails    bool
	}{
		{"version ", "The connection to the server localhost:8080 was refused", has("down")},
		{"version ", `{"serverVersion":{"gitVersion":"v1.99.0"}}`, false},
		{"get nodes --output=json", readAll(filepath.Join(dir, "nodes")), false},
		{"create namespace taken", `Error from server (AlreadyExists): namespaces "taken" already exists`, true},
		{"apply ", "error: the server says no", has("refuse")},
		{"get statefulset --output", `{"items":[{"kind":"StatefulSet","metadata":{"name":"broker"}}]}`, false},
		{"get deployment --output", `{"items":[{"kind":"Deployment","metadata":{"name":"objects"},
			"spec":{"template":{"spec":{"containers":[{"args":["--group=w","--ns=a:1"]}]}}}}]}`, false},
		{"get statefulset/broker ", `{"spec":{"replicas":3}}`, false},
		{"", `{"items":[]}`, false},
	} {
		switch {
		case !strings.HasPrefix(asked, answer.to):
		case answer.fails:
			fmt.Fprintln(os.Stderr, answer.text)
			return 1
		case strings.HasSuffix(answer.text, "}"):
			fmt.Println(answer.text)
			return 0
		}
	}
	return 0
}

func readAll(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// fakeKubectl makes a fake kubectl for a cluster of that many nodes, and with these files beside it, and returns it and what it was asked.
func fakeKubectl(t *testing.T, nodes int, files ...string) (program string, asked func() string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, fakeName)
	var items []string
	for i := range nodes {
		items = append(items, fmt.Sprintf(`{"metadata":{"name":"n%d"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, i+1))
	}
	errs := []error{os.Symlink(self, program), os.WriteFile(filepath.Join(dir, "nodes"), []byte(`{"items":[`+strings.Join(items, ",")+`]}`), 0o600)}
	for _, name := range files {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return program, func() string { return readAll(filepath.Join(dir, "asked")) }
}

// TestCannotInstall: each reason is one line, and what was made is removed.
func TestCannotInstall(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		nodes   int
		files   []string
		args    []string
		want    string
		removed bool
	}{
		{"too few nodes", 2, nil, nil, "install: 2 nodes of Kubernetes take pods, want 3: add some, or uncordon them", false},
		{"namespace is taken", 3, nil, []string{"-namespace", "taken"}, "install: namespace taken exists: remove it, or choose another one with -namespace", false},
		{"manifests are refused", 3, []string{"refuse"}, nil, "install: kubectl apply: the server says no", true},
		{"manifests are refused, but kept", 3, []string{"refuse"}, []string{"-keep"}, "install: kubectl apply: the server says no", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			program, asked := fakeKubectl(t, test.nodes, test.files...)
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), append([]string{"-kubectl", program, "-out", t.TempDir()}, test.args...), noEnv, &stdout, &stderr)
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
			if removed := strings.Contains(asked(), "delete namespace"); removed != test.removed {
				t.Errorf("namespace removed: %v, want %v; asked\n%s", removed, test.removed, asked())
			}
		})
	}
}

func TestNoKubectl(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "none")
	err := run(t.Context(), []string{"-kubectl", program}, noEnv, new(bytes.Buffer), new(bytes.Buffer))
	want := `exec: "` + program + `": stat ` + program + `: no such file or directory: install it, or say with -kubectl where it is`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	down, _ := fakeKubectl(t, 3, "down")
	err = run(t.Context(), []string{"-kubectl", down}, noEnv, new(bytes.Buffer), new(bytes.Buffer))
	want = "no Kubernetes answers: kubectl version: The connection to the server localhost:8080 was refused: set KUBECONFIG"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// TestInterrupted: after Ctrl-C what is known is saved, diagnostics too, and the namespace is removed.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	program, asked := fakeKubectl(t, 3)
	out := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var stdout, stderr bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-kubectl", program, "-out", out}, noEnv, &stdout, &stderr) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(asked(), "get pods --selector") { // it waits for the pods
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("ended by itself: %v\n%s", err, stderr.String())
		}
	}
	cancel(errors.New("interrupt signal received"))
	if err := <-ended; err == nil || err.Error() != "install: interrupt signal received" {
		t.Errorf("got %v, want that it was interrupted", err)
	}
	last := strings.Split(strings.TrimSpace(asked()), "\n")
	if got := last[len(last)-1]; !strings.HasPrefix(got, "delete namespace pyro-story --wait") {
		t.Errorf("the last thing asked was %q, want to delete the namespace", got)
	}
	var res result
	b, err := os.ReadFile(filepath.Join(out, "story.json"))
	if err == nil {
		err = json.Unmarshal(b, &res)
	}
	if err != nil || res.OK || len(res.Steps) != 1 || res.Kubernetes != "v1.99.0" || res.Nodes != 3 {
		t.Errorf("story.json: %v, %+v", err, res)
	}
	for _, name := range []string{"story.md", "diagnostics/events.txt", "diagnostics/pods.txt"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	if !strings.HasPrefix(stdout.String(), "| step") || !strings.Contains(stderr.String(), "installing in namespace pyro-story") {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
}
