package main

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/millpond/millpond/internal/files"
	"github.com/millpond/millpond/internal/nearest"
)

// problem is one thing that is wrong with the configuration.
type problem struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"` // from 1
	Column   int    `json:"column,omitempty"`
	Variable string `json:"variable,omitempty"` // of the environment
	Key      string `json:"key,omitempty"`      // such as namespaces[0].history_size
	Message  string `json:"message"`
	Warning  bool   `json:"warning,omitempty"` // serve starts all the same
	Nearest  string `json:"nearest,omitempty"` // the name that was meant, perhaps
}

// String is "FILE:LINE:COLUMN: KEY: MESSAGE", or what of it there is.
func (p problem) String() string {
	var out []string
	switch {
	case p.File != "" && p.Line > 0:
		out = append(out, fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column))
	case p.File != "":
		out = append(out, p.File)
	case p.Variable != "":
		out = append(out, p.Variable)
	}
	if p.Key != "" {
		out = append(out, p.Key)
	}
	return strings.Join(append(out, p.Message), ": ")
}

// problems are all of them, as an error of a line each.
type problems []problem

func (list problems) Error() string {
	lines := make([]string, len(list))
	for i, p := range list {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// checker walks through a file.
type checker struct {
	name  string
	found problems
}

func (c *checker) add(node ast.Node, path, format string, args ...any) {
	p := problem{File: c.name, Key: path, Message: fmt.Sprintf(format, args...)}
	if t := node.GetToken(); t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	c.found = append(c.found, p)
}

// check holds the file against what can be configured.
func (d *document) check(known []setting) problems {
	c := &checker{name: d.name}
	tree, err := parser.ParseBytes(d.source, 0)
	if err != nil {
		return nil //nolint:nilerr // that it is YAML is known
	}
	for i, doc := range tree.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType:
		case i > 0:
			c.add(doc.Body, "", "a second document: the file has one, and nothing stands behind it")
		default:
			c.mapping(doc.Body, "", known)
		}
	}
	return c.found
}

// body is the file as a tree, nil if there is nothing in it. That it is YAML is known.
func (d *document) body() ast.Node {
	tree, err := parser.ParseBytes(d.source, 0)
	if err != nil || len(tree.Docs) == 0 {
		return nil
	}
	return tree.Docs[0].Body
}

// entries are the keys of a mapping with their values, or nil for what is none.
func entries(node ast.Node) []*ast.MappingValueNode {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// indirect reports whether what stands at node is written elsewhere; the decoder knows what it is.
func indirect(node ast.Node) bool {
	switch node.Type() {
	case ast.AliasType, ast.AnchorType, ast.TagType, ast.MergeKeyType:
		return true
	}
	return false
}

func (c *checker) mapping(node ast.Node, path string, known []setting) {
	if node.Type() == ast.NullType || node.Type() == ast.CommentType || indirect(node) {
		return
	}
	list := entries(node)
	if list == nil && node.Type() != ast.MappingType {
		c.add(node, path, "is not a mapping of keys")
		return
	}
	for _, e := range list {
		if e.Key.IsMergeKey() {
			continue
		}
		name := e.Key.GetToken().Value
		at := strings.TrimPrefix(path+"."+name, ".")
		s, ok := find(known, name)
		if !ok {
			near := nearest.Name(name, keysOf(known))
			c.add(e.Key, at, "unknown key %s, did you mean %s?", name, near)
			c.found[len(c.found)-1].Nearest = near
			continue
		}
		c.value(e.Value, at, s)
	}
}

func (c *checker) value(node ast.Node, path string, s setting) {
	if node == nil || node.Type() == ast.NullType || indirect(node) {
		return // nothing is said, and the default holds; checkBounds knows where that is not enough
	}
	kind := s.kind()
	switch kind {
	case "section":
		c.mapping(node, path, s.fields)
		return
	case "list of sections":
		list, ok := node.(*ast.SequenceNode)
		if !ok {
			c.add(node, path, "is not a list")
			return
		}
		for i, element := range list.Values {
			c.mapping(element, fmt.Sprintf("%s[%d]", path, i), s.fields)
		}
		return
	}
	if s.flag != nil {
		c.flag(node, path, s)
		return
	}
	if !fits(node, kind) {
		if strings.Contains(path, headersKey) {
			c.add(node, path, "it is no %s", s.kindInWords()) // it may be a secret
		} else {
			c.add(node, path, "%s is no %s", node, s.kindInWords())
		}
		return
	}
	if s.enum != nil || s.bounds.text != "" {
		for _, text := range s.texts(node) {
			if err := s.allow(text); err != nil {
				c.add(node, path, "%v", err)
			}
		}
	}
	if s.file() {
		c.file(node, path, node.GetToken().Value)
	}
}

// fits reports whether a value in a section is of that kind.
func fits(node ast.Node, kind string) bool {
	switch kind {
	case "boolean":
		return node.Type() == ast.BoolType
	case "integer":
		return node.Type() == ast.IntegerType
	case "number":
		return node.Type() == ast.IntegerType || node.Type() == ast.FloatType
	case "duration":
		_, err := time.ParseDuration(node.GetToken().Value)
		return err == nil
	case "list of strings":
		_, ok := node.(*ast.SequenceNode)
		return ok
	case "map of strings":
		return entries(node) != nil || node.Type() == ast.MappingType
	}
	_, ok := node.(ast.ScalarNode)
	return ok
}

// flag asks the flag's own decoder.
func (c *checker) flag(node ast.Node, path string, s setting) {
	for _, text := range s.texts(node) {
		if err := s.decode(text); err != nil {
			c.add(node, path, "%v", err)
			return
		}
	}
}

// texts are the values of a node as they would stand on the command line; none that are not scalars.
func (s setting) texts(node ast.Node) (out []string) {
	nodes := []ast.Node{node}
	if list, ok := node.(*ast.SequenceNode); ok && s.kind() == "list of strings" {
		nodes = list.Values
	}
	for _, n := range nodes {
		switch n := n.(type) {
		case *ast.SequenceNode, *ast.MappingNode, *ast.MappingValueNode:
			return append(out, n.String()) // which no decoder takes
		case *ast.LiteralNode:
			out = append(out, n.Value.Value)
		default:
			out = append(out, n.GetToken().Value)
		}
	}
	return out
}

// decode reports what is wrong with a value of a flag.
func (s setting) decode(text string) error {
	if err := s.allow(text); err != nil {
		return err
	}
	if s.file() {
		return readable(text)
	}
	target := reflect.New(s.typ).Elem()
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text})
	if err := s.flag.Mapper.Decode(&kong.DecodeContext{Value: s.flag.Value, Scan: scan}, target); err != nil {
		return fmt.Errorf("%q is no %s", text, s.kindInWords())
	}
	return nil
}

// allow reports what is wrong with a value of the right kind.
func (s setting) allow(text string) error {
	if s.enum != nil && !slices.Contains(s.enum, text) {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(s.enum, ", "))
	}
	return s.bounds.check(text)
}

// readable reports why a file cannot be read. The value of a flag may name the key that it has before the file.
func readable(name string) error {
	return files.Check(kong.ExpandPath(name), files.MaxSecretBytes)
}

func (c *checker) file(node ast.Node, path, name string) {
	if err := readable(name); name != "" && err != nil {
		c.add(node, path, "%v", err)
	}
}

// position finds where a key such as namespaces[1].history_size stands, or what of it there is.
func (d *document) position(path string) (line, column int) {
	node := d.body()
	for part := range strings.SplitSeq(path, ".") {
		name, index, _ := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		i := slices.IndexFunc(entries(node), func(e *ast.MappingValueNode) bool { return e.Key.GetToken().Value == name })
		if i < 0 {
			return line, column
		}
		e := entries(node)[i]
		line, column = e.Key.GetToken().Position.Line, e.Key.GetToken().Position.Column
		node = e.Value
		list, ok := node.(*ast.SequenceNode)
		if n, err := strconv.Atoi(index); ok && err == nil && n < len(list.Values) {
			node = list.Values[n]
			if first := entries(node); len(first) > 0 {
				line, column = first[0].Key.GetToken().Position.Line, first[0].Key.GetToken().Position.Column
			}
		}
	}
	return line, column
}
