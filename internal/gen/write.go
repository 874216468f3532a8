package gen

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// file is one to be written.
type file struct {
	path string
	text []byte
}

// write writes all files or none: each is complete beside its place before the first one takes it.
func write(files []file) (err error) {
	var temps []string
	defer func() {
		for _, temp := range temps {
			os.Remove(temp) // gone already if all went well
		}
	}()
	var changed []file
	for _, f := range files {
		if old, err := os.ReadFile(f.path); err == nil && bytes.Equal(old, f.text) {
			continue
		}
		temp, err := writeBeside(f)
		if err != nil {
			return err
		}
		temps, changed = append(temps, temp), append(changed, f)
	}
	for i, f := range changed {
		if err := os.Rename(temps[i], f.path); err != nil {
			return err
		}
	}
	return nil
}

// writeBeside writes a file under another name into the directory where it belongs.
func writeBeside(f file) (temp string, err error) {
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", f.path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	w, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+"-*")
	if err != nil {
		return "", fmt.Errorf("%s cannot be written: %w", f.path, err)
	}
	_, err = w.Write(f.text)
	err = errors.Join(err, w.Chmod(0o644), w.Close())
	if err != nil {
		os.Remove(w.Name())
		return "", fmt.Errorf("%s cannot be written: %w", f.path, err)
	}
	return w.Name(), nil
}
