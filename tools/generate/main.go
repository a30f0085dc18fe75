// Command generate writes the Go code of .proto files beside them. It is what
// protoc would do, in Go, so that the compiler is pinned as the plugins are.
//
// The files are named from the repository's root, where it runs. The plugins
// are the ones beside its own binary. With -l it writes nothing, names the
// files that aren't what their .proto says, and fails if there are any.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugins are what generates, with their parameters.
var plugins = map[string]string{
	"protoc-gen-go":         "paths=source_relative",
	"protoc-gen-go-vtproto": "paths=source_relative,features=marshal+unmarshal+size",
}

func main() {
	list := flag.Bool("l", false, "write nothing, list the files that would change")
	flag.Parse()
	stale, err := generate(flag.Args(), !*list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
	for _, name := range stale {
		fmt.Println(name)
	}
	if *list && len(stale) > 0 {
		os.Exit(1)
	}
}

// generate returns the files whose content changed, or would change.
func generate(names []string, write bool) (stale []string, err error) {
	request, err := compile(names)
	if err != nil {
		return nil, err
	}
	for plugin, parameter := range plugins {
		request.Parameter = proto.String(parameter)
		files, err := run(plugin, request)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
		for _, f := range files {
			if before, err := os.ReadFile(f.GetName()); err == nil && string(before) == f.GetContent() {
				continue
			}
			stale = append(stale, f.GetName())
			if !write {
				continue
			}
			if err := os.WriteFile(f.GetName(), []byte(f.GetContent()), 0o644); err != nil {
				return nil, err
			}
		}
	}
	return stale, nil
}

// compile returns the request that protoc would send to a plugin, without its
// parameter. Comments go along: they become those of the Go code.
func compile(names []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		return nil, err
	}
	var files []*descriptorpb.FileDescriptorProto
	for _, f := range compiled {
		files = append(files, protoutil.ProtoFromFileDescriptor(f))
	}
	return &pluginpb.CodeGeneratorRequest{FileToGenerate: names, ProtoFile: files}, nil
}

func run(plugin string, request *pluginpb.CodeGeneratorRequest) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(filepath.Join(filepath.Dir(self), plugin))
	command.Stdin = bytes.NewReader(in)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return response.File, nil
}
