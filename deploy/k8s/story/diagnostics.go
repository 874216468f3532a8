package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// diagnose writes what Kubernetes knows of the namespace to files in dir: events, objects, and the logs of all pods.
func (s *story) diagnose(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	save := func(name string, args ...string) {
		out, err := s.kube.run(ctx, args...)
		if err != nil {
			out += err.Error() + "\n" // what could not be had is part of the picture
		}
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(out), 0o644))
	}
	save("events.txt", "get", "events", "--sort-by=.lastTimestamp", "--output=wide")
	save("objects.txt", "get", "all,poddisruptionbudgets,persistentvolumeclaims,endpointslices", "--output=wide")
	save("nodes.txt", "get", "nodes", "--output=wide")
	save("pods.txt", "describe", "pods")
	var pods list[pod]
	if err := s.kube.get(ctx, &pods, "get", "pods"); err != nil {
		errs = append(errs, err)
	}
	for _, p := range pods.Items {
		save(p.Meta.Name+".log", "logs", p.Meta.Name, "--all-containers", "--timestamps")
		if p.restarts() > 0 {
			save(p.Meta.Name+".previous.log", "logs", p.Meta.Name, "--all-containers", "--timestamps", "--previous")
		}
	}
	return errors.Join(errs...)
}
