package k8s

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// arguments are those of a container as its program gets them.
func arguments(c *corev1.Container) []string {
	known := map[string]string{"POD_NAME": "broker-0", "POD_NAMESPACE": "prod", "POD_IP": "10.0.0.7"}
	var all []string
	for _, a := range c.Args {
		all = append(all, variable.ReplaceAllStringFunc(a, func(v string) string { return known[v[2:len(v)-1]] }))
	}
	return all
}

// words are the arguments before the first flag, which choose the command.
func words(args []string) []string {
	for i, a := range args {
		if strings.HasPrefix(a, "-") || strings.Contains(a, ":") {
			return args[:i]
		}
	}
	return args
}

// accepted asks the program whether it knows a command and takes its flags, without running it.
func accepted(t *testing.T, program string, args []string) error {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, append(args[:len(args):len(args)], "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if usage := "\n  pyro-cluster " + strings.Join(words(args), " ") + " "; !bytes.Contains(out, []byte(usage)) {
		return fmt.Errorf("help of another command: %s", out)
	}
	return nil
}

// TestArguments: the program takes what the manifests give it.
func TestArguments(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "pyro-cluster")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/pyro-cluster").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for install := range installs {
		for _, w := range load(t, install).workloads() {
			args := arguments(w.container())
			if err := accepted(t, program, args); err != nil {
				t.Errorf("%s: %s: %q: %v", install, w, args, err)
			}
		}
	}
	for _, row := range []struct {
		name string
		args []string
	}{
		{"unknown flag", []string{"server", "--data-dir=/data", "--expects=3"}},
		{"flag of another command", []string{"loadtest", "serve", "--group=g", "--expect=3"}},
		{"no number", []string{"server", "--data-dir=/data", "--expect=three"}},
		{"unknown choice", []string{"server", "--data-dir=/data", "--log-format=yaml"}},
		{"unknown command", []string{"serve", "--data-dir=/data"}},
		{"unknown command of a known one", []string{"loadtest", "server", "--group=g"}},
	} {
		if err := accepted(t, program, row.args); err == nil {
			t.Errorf("%s: %q is accepted", row.name, row.args)
		}
	}
}

// python is the interpreter with stock Pyro5.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PCLUSTER_PYTHON")
	if path == "" {
		path = filepath.Join("..", "..", ".venv", "bin", "python")
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("no Python with Pyro5: %v: run make venv (scripts/venv.sh)", err)
	}
	return path
}

// injected returns the variables that Kubernetes sets for a Service in all pods of its namespace that have service links: its own, and those of Docker's
// links.  (kubernetes/pkg/kubelet/envvars, FromServices.)
func injected(s *corev1.Service) []string {
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	const ip = "10.96.0.17"
	name := envName(s.Name)
	all := []string{name + "_SERVICE_HOST=" + ip, fmt.Sprintf("%s_SERVICE_PORT=%d", name, s.Spec.Ports[0].Port)}
	for i, p := range s.Spec.Ports {
		if p.Name != "" {
			all = append(all, fmt.Sprintf("%s_SERVICE_PORT_%s=%d", name, envName(p.Name), p.Port))
		}
		protocol := "TCP"
		if p.Protocol != "" {
			protocol = string(p.Protocol)
		}
		address := fmt.Sprintf("%s://%s:%d", strings.ToLower(protocol), ip, p.Port)
		if i == 0 {
			all = append(all, name+"_PORT="+address)
		}
		link := fmt.Sprintf("%s_PORT_%d_%s", name, p.Port, protocol)
		all = append(all, link+"="+address, link+"_PROTO="+strings.ToLower(protocol), fmt.Sprintf("%s_PORT=%d", link, p.Port), link+"_ADDR="+ip)
	}
	return all
}

func envName(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// startPyro starts stock Pyro5 with more in its environment.
func startPyro(t *testing.T, env []string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python(t), "-c", "import Pyro5.api; print('alive')")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PYRO") && !strings.HasPrefix(v, "PYTHON") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "PYTHONDONTWRITEBYTECODE=1"), env...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestServicesLetPyroLive starts stock Pyro5 with what Kubernetes sets in pods beside our Services.
func TestServicesLetPyroLive(t *testing.T) {
	t.Parallel()
	for install := range installs {
		t.Run(install, func(t *testing.T) {
			t.Parallel()
			var env []string
			for _, s := range load(t, install).services {
				env = append(env, injected(s)...)
			}
			if len(env) == 0 {
				t.Fatal("no Service has an address")
			}
			if out, err := startPyro(t, env); err != nil || out != "alive\n" {
				t.Errorf("%q\ngot %q, %v", env, out, err)
			}
		})
	}
	t.Run("a Service that begins with pyro", func(t *testing.T) {
		t.Parallel()
		s := load(t, "three nodes and the example").services[0]
		s.Name = "pyro-x"
		out, err := startPyro(t, injected(s))
		if err == nil || !strings.Contains(out, "PYRO_X_") {
			t.Errorf("got %q, %v; if stock Pyro5 lives with these variables, the rule is not needed", out, err)
		}
	})
}

// TestInjected holds injected against what a pod of Kubernetes 1.35 had beside the Service broker.
func TestInjected(t *testing.T) {
	t.Parallel()
	s := &corev1.Service{}
	s.Name = "my-broker"
	s.Spec.Ports = []corev1.ServicePort{{Name: "pyro", Port: 9090}}
	want := []string{
		"MY_BROKER_SERVICE_HOST=10.96.0.17",
		"MY_BROKER_SERVICE_PORT=9090",
		"MY_BROKER_SERVICE_PORT_PYRO=9090",
		"MY_BROKER_PORT=tcp://10.96.0.17:9090",
		"MY_BROKER_PORT_9090_TCP=tcp://10.96.0.17:9090",
		"MY_BROKER_PORT_9090_TCP_PROTO=tcp",
		"MY_BROKER_PORT_9090_TCP_PORT=9090",
		"MY_BROKER_PORT_9090_TCP_ADDR=10.96.0.17",
	}
	if got := injected(s); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
