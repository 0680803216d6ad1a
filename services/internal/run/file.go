package run

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// File is a configuration file that was read: the shared part decoded, the
// sections of targets waiting for their targets.
type File struct {
	Config // defaults, then the file, then the environment

	path     string
	sections map[string]ast.Node
	keys     map[string]*token.Token // of each top-level key
	env      environment
	targets  []string
	used     map[string]any  // target -> its decoded section
	shared   error           // what is wrong with the sections that all targets share
	undone   map[string]bool // those of them that could not be decoded
}

// LoadFile reads a configuration file. targets are the names that may have a
// section; environ is os.Environ() or a test's. Every error says file, line,
// column and what to do.
func LoadFile(path string, targets, environ []string) (*File, error) {
	f, err := openFile(path, targets, environ)
	if err == nil {
		err = f.shared
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// openFile is LoadFile for Check, which tells what is wrong with the shared sections along with the others.
func openFile(path string, targets, environ []string) (*File, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w (give the file with --config)", err)
	}
	return parseFile(path, source, targets, environ)
}

// ParseFile is LoadFile for bytes; path is only shown.
func ParseFile(path string, source []byte, targets, environ []string) (*File, error) {
	f, err := parseFile(path, source, targets, environ)
	if err == nil {
		err = f.shared
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func parseFile(path string, source []byte, targets, environ []string) (*File, error) {
	f := &File{
		Config: DefaultConfig(), path: path, targets: targets,
		sections: map[string]ast.Node{}, keys: map[string]*token.Token{}, used: map[string]any{}, undone: map[string]bool{},
		env: readEnvironment(environ),
	}
	if err := f.split(source); err != nil {
		return nil, err
	}
	var wrong []error
	shared := reflect.ValueOf(&f.Config).Elem()
	for i := range shared.NumField() {
		name := yamlName(shared.Type().Field(i))
		if err := f.decode(name, shared.Field(i).Addr().Interface()); err != nil {
			wrong, f.undone[name] = append(wrong, err), true
		}
	}
	for _, mistake := range f.mistakes() {
		if section, _, _ := strings.Cut(mistake.Path, "."); !f.undone[section] { // else what was not decoded would be called missing
			wrong = append(wrong, f.locate("", mistake))
		}
	}
	f.shared = errors.Join(wrong...)
	return f, nil
}

// Path is the file's name as it was given.
func (f *File) Path() string { return f.path }

// split cuts the file into its top-level sections.
func (f *File) split(source []byte) error {
	tree, err := parser.ParseBytes(source, 0)
	if err != nil {
		return f.explain(err, nil)
	}
	allowed := slices.Clone(f.targets)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		allowed = append(allowed, yamlName(field))
	}
	for i, doc := range tree.Docs {
		if i > 0 {
			return fmt.Errorf("config: %s holds more than one YAML document: keep one", f.path)
		}
		values, err := entries(doc.Body)
		if err != nil {
			return f.at(doc.Body.GetToken(), "the file must be a mapping of sections: "+err.Error())
		}
		for _, v := range values {
			key := v.Key.GetToken()
			if !slices.Contains(allowed, key.Value) {
				return f.at(key, fmt.Sprintf("unknown section %q%s", key.Value, meant(key.Value, allowed)))
			}
			if f.keys[key.Value] != nil {
				return f.at(key, fmt.Sprintf("section %q is there twice", key.Value))
			}
			f.keys[key.Value], f.sections[key.Value] = key, v.Value
		}
	}
	return nil
}

// entries lists the keys of a mapping; an empty document has none.
func entries(node ast.Node) ([]*ast.MappingValueNode, error) {
	switch n := node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	}
	return nil, fmt.Errorf("found a %s", strings.ToLower(node.Type().String()))
}

// Section decodes the section of a target into dst (a pointer to a struct that
// holds the defaults), applies the environment and calls dst's Validate.
func (f *File) Section(target string, dst any) error {
	if err := f.decode(target, dst); err != nil {
		return err
	}
	if v, ok := dst.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return f.locate(target, err)
		}
	}
	f.used[target] = dst
	return nil
}

func (f *File) decode(section string, dst any) error {
	if reflect.TypeOf(dst).Kind() != reflect.Pointer || reflect.TypeOf(dst).Elem().Kind() != reflect.Struct {
		return fmt.Errorf("config: section %s is decoded into %T instead of a pointer to a struct", section, dst)
	}
	node, ok := f.sections[section]
	if _, null := node.(*ast.NullNode); ok && !null {
		if _, err := entries(node); err != nil {
			return f.at(node.GetToken(), fmt.Sprintf("section %q must be a mapping: %v", section, err))
		}
		if err := yaml.NodeToValue(node, dst, yaml.Strict()); err != nil {
			return f.explain(err, keysOf(reflect.TypeOf(dst).Elem()))
		}
	}
	return f.env.apply(section, dst)
}

// explain turns an error of the YAML library into ours: place, reason, a
// suggestion, and the lines around it.
func (f *File) explain(err error, known []string) error {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return fmt.Errorf("config: %s: %w", f.path, err)
	}
	msg := ye.GetMessage()
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		key := unknown.Token.Value
		msg = fmt.Sprintf("unknown key %q%s", key, meant(key, known))
	}
	return f.at(ye.GetToken(), msg)
}

// configError is a mistake in the configuration, with its place: the file has to be mended, another try does not help.
type configError struct{ text string }

func (e *configError) Error() string { return e.text }

// at is an error at a place in the file, with its lines.
func (f *File) at(tk *token.Token, msg string) error {
	if tk == nil || tk.Position == nil {
		return &configError{fmt.Sprintf("config: %s: %s", f.path, msg)}
	}
	snippet := yaml.FormatErrorWithToken("", tk, false, true)
	snippet = snippet[strings.IndexByte(snippet, '\n')+1:]
	return &configError{fmt.Sprintf("config: %s:%d:%d: %s\n%s", f.path, tk.Position.Line, tk.Position.Column, msg, strings.TrimRight(snippet, "\n"))}
}

// FieldError is a value that cannot work, by its key.
type FieldError struct {
	Path    string // dotted key, relative to the section it is in
	Message string
}

func (e *FieldError) Error() string { return strings.TrimSpace(e.Path + ": " + e.Message) }

// BadField is an error for a Validate method: which key, what is wrong with its
// value, how to mend it. The place in the file is added by the caller.
func BadField(path, format string, a ...any) error {
	return &FieldError{Path: path, Message: fmt.Sprintf(format, a...)}
}

// locate adds the place in the file to the field errors of a section.
func (f *File) locate(section string, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, f.locate(section, e))
		}
		return errors.Join(all...)
	}
	var field *FieldError
	if !errors.As(err, &field) {
		return fmt.Errorf("config: %s: section %s: %w", f.path, section, err)
	}
	path := strings.Trim(section+"."+field.Path, ".")
	return f.at(f.token(path), path+" "+field.Message)
}

// place is locate for an error that may be of another kind: what names no key of the section stays as it is.
func (f *File) place(section string, err error) error {
	var field *FieldError
	if !errors.As(err, &field) {
		return err
	}
	return f.locate(section, err)
}

// token finds the key of a dotted path, or the nearest enclosing one that is
// in the file.
func (f *File) token(path string) *token.Token {
	parts := strings.Split(path, ".")
	found := f.keys[parts[0]]
	node := f.sections[parts[0]]
	for _, part := range parts[1:] {
		values, err := entries(node)
		if err != nil {
			return found
		}
		node = nil
		for _, v := range values {
			if v.Key.GetToken().Value == part {
				found, node = v.Key.GetToken(), v.Value
			}
		}
		if node == nil {
			return found
		}
	}
	return found
}

// ReadSecret reads a secret from a file, without the newline at its end.
func ReadSecret(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("secret: %s is empty", path)
	}
	return secret, nil
}

// yamlName is the key of a struct field; "" for fields that have none.
func yamlName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// keysOf lists all keys of a struct and of the structs in it.
func keysOf(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for _, field := range reflect.VisibleFields(t) {
		if name := yamlName(field); name != "" {
			keys = append(keys, name)
			keys = append(keys, keysOf(field.Type)...)
		}
	}
	return keys
}

// meant suggests the known word nearest to a mistyped one.
func meant(word string, known []string) string {
	best, distance := "", len(word)/3+2
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(": did you mean %q?", best)
	}
	slices.Sort(known)
	return ": known are " + strings.Join(slices.Compact(known), ", ")
}

// editDistance counts the letters to add, drop or change between two words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
