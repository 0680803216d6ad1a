package run

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

// The comments of configuration structs are their documentation. A program
// does not carry its source, so `go generate` (make gen) writes them to a file
// that it does carry; a test fails when the file is out of date.
//
//go:generate go run ./commentgen ../.. configcomments.json

//go:embed configcomments.json
var configCommentsJSON []byte

// configComments maps "package.Type" and "package.Type.Field" to comments.
func configComments() (map[string]string, error) {
	comments := map[string]string{}
	if err := json.Unmarshal(configCommentsJSON, &comments); err != nil {
		return nil, fmt.Errorf("run: comments of the configuration: %w", err)
	}
	return comments, nil
}

// ReadComments reads the comments of all structs with yaml tags below a folder
// of Go source, by package path relative to that folder, type and field.
func ReadComments(root fs.FS) (map[string]string, error) {
	comments := map[string]string{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "cmd" || (strings.HasPrefix(d.Name(), ".") && name != ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if !strings.Contains(string(source), "yaml:\"") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments)
		if err != nil {
			return err
		}
		readFile(file, filepath.ToSlash(path.Dir(name)), comments)
		return nil
	})
	return comments, err
}

func readFile(file *ast.File, pkg string, comments map[string]string) {
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			ts := spec.(*ast.TypeSpec)
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			key := pkg + "." + ts.Name.Name
			if readFields(st, key, comments) {
				doc := ts.Doc
				if doc == nil {
					doc = gen.Doc
				}
				keep(comments, key, doc.Text())
			}
		}
	}
}

// readFields reports whether the struct has fields with yaml tags.
func readFields(st *ast.StructType, key string, comments map[string]string) bool {
	found := false
	for _, field := range st.Fields.List {
		if field.Tag == nil || !strings.Contains(field.Tag.Value, "yaml:") {
			continue
		}
		found = true
		text := field.Doc.Text()
		if text == "" {
			text = field.Comment.Text()
		}
		for _, name := range field.Names {
			keep(comments, key+"."+name.Name, text)
		}
	}
	return found
}

func keep(comments map[string]string, key, text string) {
	if text = strings.TrimSpace(text); text != "" {
		comments[key] = text
	}
}
