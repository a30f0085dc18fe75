// Command deploy checks files of deploy/ by the libraries of the programs that read them. It is in a module of its own, for these are large.
//
//	deploy compose FILE…         Compose files, as docker compose reads them
//	deploy chart DIR VALUES…     a Helm chart with each of the files of values: linted, rendered,
//	                             and what is rendered decoded strictly as Kubernetes's types; prints it
//	deploy envoy FILE…           Envoy bootstraps, with the rules on the values of their fields
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: deploy compose|chart|envoy FILE…")
	}
	what, args := args[0], args[1:]
	switch what {
	case "compose":
		return each(args, checkCompose)
	case "chart":
		return checkChart(args[0], args[1:])
	case "envoy":
		return each(args, checkEnvoy)
	}
	return fmt.Errorf("what is %s?", what)
}

func each(files []string, check func(string) error) (err error) {
	for _, file := range files {
		if e := check(file); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", file, e))
		}
	}
	return err
}
