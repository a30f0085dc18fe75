package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// checkCompose reads a Compose file, checks it against the schema, resolves what it extends and names, and sees to
// it that the files which it mounts are there. Secrets are the user's to make.
func checkCompose(file string) error {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithConsistency(true), cli.WithResolvedPaths(true))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	for _, service := range project.Services {
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if info, err := os.Stat(volume.Source); err != nil || !info.Mode().IsRegular() {
				return fmt.Errorf("%s mounts %s, which is no file here", service.Name, volume.Source)
			}
		}
		for _, secret := range service.Secrets {
			if filepath.Base(filepath.Dir(project.Secrets[secret.Source].File)) != "secrets" {
				return fmt.Errorf("%s has the secret %s from elsewhere than secrets/", service.Name, secret.Source)
			}
		}
	}
	yaml, err := project.MarshalYAML()
	if err == nil {
		_, err = os.Stdout.Write(yaml)
	}
	return err
}
