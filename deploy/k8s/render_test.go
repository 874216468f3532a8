// Package k8s holds the manifests against the Kubernetes API's own types, against the rules by which they were written, and against the program.
package k8s

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// installs are sets of kustomizations that are applied to one namespace.  Together they have all that users apply.
var installs = map[string][]string{
	"three nodes and the example": {"base", "example", "example/load"},
	"one node":                    {"overlays/single"},
	"three nodes with TLS":        {"overlays/tls"},
}

// manifests are the objects of an install.
type manifests struct {
	services     []*corev1.Service
	statefulSets []*appsv1.StatefulSet
	deployments  []*appsv1.Deployment
	jobs         []*batchv1.Job
	budgets      []*policyv1.PodDisruptionBudget
	policies     []*networkingv1.NetworkPolicy
	namespaces   []*corev1.Namespace
}

// rendered renders every kustomization once: kustomize has state of its own and does not do two at a time.
var rendered = sync.OnceValues(func() (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, paths := range installs {
		for _, path := range paths {
			resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			if all[path], err = resources.AsYaml(); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return all, nil
})

// load returns the objects of an install, a copy of the caller's own.
func load(t *testing.T, install string) *manifests {
	t.Helper()
	files, err := rendered()
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{}
	for _, path := range installs[install] {
		if err := m.decode(files[path]); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return m
}

// decode adds objects to m.  Fields that Kubernetes does not know, or knows with other capitals, are errors.
func (m *manifests) decode(text []byte) error {
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		if err := m.decodeOne(document); err != nil {
			return err
		}
	}
	return nil
}

func (m *manifests) decodeOne(document []byte) error {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	var meta metav1.PartialObjectMetadata
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &meta); err != nil {
		return err
	}
	into := m.add(meta.APIVersion + " " + meta.Kind)
	if into == nil {
		return fmt.Errorf("%s %s %s: this test does not know the kind", meta.APIVersion, meta.Kind, meta.Name)
	}
	strict, err := json.UnmarshalStrict(text, into)
	if err := errors.Join(append(strict, err)...); err != nil {
		return fmt.Errorf("%s %s: %w", meta.Kind, meta.Name, err)
	}
	if meta.Namespace != "" {
		return fmt.Errorf("%s %s has the namespace %s: whoever applies it chooses", meta.Kind, meta.Name, meta.Namespace)
	}
	return nil
}

// add returns a new object of a kind, which is in m now; nil if it is none of those that we have.
func (m *manifests) add(kind string) any {
	switch kind {
	case "v1 Service":
		return appended(&m.services)
	case "v1 Namespace":
		return appended(&m.namespaces)
	case "apps/v1 StatefulSet":
		return appended(&m.statefulSets)
	case "apps/v1 Deployment":
		return appended(&m.deployments)
	case "batch/v1 Job":
		return appended(&m.jobs)
	case "policy/v1 PodDisruptionBudget":
		return appended(&m.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		return appended(&m.policies)
	}
	return nil
}

func appended[T any](list *[]*T) *T {
	object := new(T)
	*list = append(*list, object)
	return object
}

// workload is what runs pods.
type workload struct {
	kind, name string
	selector   *metav1.LabelSelector // nil: Kubernetes makes one
	template   *corev1.PodTemplateSpec
}

func (w workload) String() string { return w.kind + " " + w.name }

// container is the only one of its pods.
func (w workload) container() *corev1.Container { return &w.template.Spec.Containers[0] }

func (m *manifests) workloads() []workload {
	var all []workload
	for _, s := range m.statefulSets {
		all = append(all, workload{"StatefulSet", s.Name, s.Spec.Selector, &s.Spec.Template})
	}
	for _, d := range m.deployments {
		all = append(all, workload{"Deployment", d.Name, d.Spec.Selector, &d.Spec.Template})
	}
	for _, j := range m.jobs {
		all = append(all, workload{"Job", j.Name, j.Spec.Selector, &j.Spec.Template})
	}
	return all
}

// flags are those among the arguments of a container.
func flags(c *corev1.Container) map[string]string {
	all := map[string]string{}
	for _, a := range c.Args {
		if name, is := strings.CutPrefix(a, "--"); is {
			name, value, _ := strings.Cut(name, "=")
			all[name] = value
		}
	}
	return all
}

func TestStrictDecoding(t *testing.T) {
	t.Parallel()
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
	for _, row := range []struct{ name, text, want string }{
		{"good", service + "spec: {clusterIP: None}\n", ""},
		{"unknown field", service + "spec: {clusterIp: None}\n", `unknown field "spec.clusterIp"`},
		{"unknown field in the second", service + "---\n" + service + "status: {ready: true}\n", `unknown field "status.ready"`},
		{"wrong type", service + "spec: {ports: none}\n", "cannot unmarshal string"},
		{"twice", service + "spec: {}\nspec: {}\n", `"spec" already set`},
		{"unknown kind", "apiVersion: v2\nkind: Service\nmetadata: {name: s}\n", "does not know the kind"},
		{"namespace", "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: prod}\n", "has the namespace prod"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			err := (&manifests{}).decode([]byte(row.text))
			if got := fmt.Sprint(err); (row.want == "") != (err == nil) || !strings.Contains(got, row.want) && row.want != "" {
				t.Errorf("%s\ngot %q, want %q", row.text, got, row.want)
			}
		})
	}
}

// TestNamespace: the namespace of the documents refuses pods that do not meet "restricted".
func TestNamespace(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("namespace.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{}
	if err := m.decode(text); err != nil {
		t.Fatal(err)
	}
	if len(m.namespaces) != 1 || m.namespaces[0].Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace.yaml: got %+v, want one namespace that enforces restricted", m.namespaces)
	}
}
