package services_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "ceralacca.dev/services"

// source is one package of this module as its files say, tests apart.
type source struct {
	path    string // relative to the module, for example internal/bus
	name    string
	imports map[string]string // import path -> file that has it
}

// packages reads the import clauses of every package; that takes milliseconds
// and needs no build.
func packages(t *testing.T) []source {
	t.Helper()
	found := map[string]*source{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || (strings.HasPrefix(d.Name(), ".") && name != ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(name))
		if found[dir] == nil {
			found[dir] = &source{path: dir, name: file.Name.Name, imports: map[string]string{}}
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[dir].imports[imported] = name
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	for _, p := range found {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b source) int { return strings.Compare(a.path, b.path) })
	if len(all) < 10 {
		t.Fatalf("only %d packages found: this test looks at nothing", len(all))
	}
	return all
}

// services are the packages that own a room each.
var services = []string{"invoice", "sdi-gateway", "pec-gateway", "signer", "conservation", "notification", "tenancy"}

// kit is who may import whom inside internal: only downwards.
var kit = map[string][]string{
	"fault":     {},
	"telemetry": {"fault"},
	"pg":        {"telemetry", "fault"},
	"bus":       {"pg", "telemetry", "fault"},
	"auth":      {"fault"},
	"rpc":       {"auth", "fault"},
	"blob":      {"fault"},
	"vault":     {"fault"},
	"devenv":    {},
	"guard":     {},
	"spool":     {},
	"run":       {"auth", "blob", "bus", "fault", "pg", "rpc", "telemetry"},
}

// testKit are helpers for tests that live beside what they help to test; they
// may use more, and nothing but tests may use them.
var testKit = []string{"internal/pg/pgtest", "internal/bus/bustest", "internal/run/runtest", "internal/blob/blobtest", "internal/blob/s3test", "format/tlog/tlogtest", "signer/internal/provider/providertest", "sandbox/sandboxtest", "pec-gateway/internal/sinktest"}

// formats is who may import whom inside format, and nobody else of ours.
var formats = map[string][]string{
	"fatturapa": {}, "cms": {}, "sincro": {},
	"sdi": {"fatturapa"}, "pec": {"cms"}, "cades": {"cms", "tsp"}, "tsp": {"cms"}, "xades": {"cms", "tsp"},
	"pades":     {"cades", "cms", "tsp"},
	"signature": {"fatturapa", "cms", "cades", "xades"},
	"trustlist": {"xades"}, "validation": {"cms", "cades", "xades", "pades", "tsp", "trustlist", "fatturapa"},
	"tlog": {"tsp"}, "ers": {"tsp"}, "custody": {"sincro", "tlog"},
	"sdiftp": {"sdi", "cms"}, "csc": {}, "pskc": {},
	"pdd":        {"cades", "cms", "custody", "ers", "revocation", "sincro", "tlog", "tsp"},
	"revocation": {"validation"},
	"dossier":    {"validation"},
}

// formatDeps are the only foreign modules of format. go-pdf/fpdf makes the pages of an invoice's
// PDF, golang.org/x/image the fonts and the pictures. golang.org/x/mod has the Merkle tree and
// the signed notes of tlog: what the Go checksum database runs on, so that the arithmetic of
// proofs is not written a second time; it needs no other module.
var formatDeps = []string{
	"golang.org/x/crypto", "golang.org/x/text", "github.com/beevik/etree", "go.mozilla.org/pkcs7",
	"github.com/russellhaering/goxmldsig", "github.com/cockroachdb/apd/v3",
	"codeberg.org/go-pdf/fpdf", "golang.org/x/image", "golang.org/x/mod",
}

// allowed says why p may not import what, or "".
func allowed(p source, imported string) string {
	if slices.Contains(testKit, p.path) {
		return ""
	}
	own, ours := strings.CutPrefix(imported, module+"/")
	room, _, _ := strings.Cut(p.path, "/")
	if ours && slices.Contains(testKit, own) {
		return "only tests may use it"
	}
	switch {
	case room == "format":
		return allowedFormat(p, imported, own, ours)
	case room == "internal":
		return allowedKit(p, imported, own, ours)
	case slices.Contains(services, room):
		return allowedService(room, own, ours)
	case room == "console":
		if ours && !slices.Contains([]string{"internal/run", "internal/rpc", "internal/auth", "internal/telemetry", "internal/fault"}, own) && !strings.HasPrefix(own, "console/") {
			return "the console sees what gRPC shows, and no more"
		}
	case room == "sandbox":
		if strings.HasPrefix(imported, "ceralacca.dev/proto") || (ours && !strings.HasPrefix(own, "format/") && !strings.HasPrefix(own, "sandbox")) {
			return "the sandbox plays the outside world and knows nothing of ours but the formats"
		}
	}
	return ""
}

func allowedFormat(p source, imported, own string, ours bool) string {
	first, _, _ := strings.Cut(imported, "/")
	if !ours {
		foreign := strings.Contains(first, ".")
		if foreign && !slices.ContainsFunc(formatDeps, func(dep string) bool { return imported == dep || strings.HasPrefix(imported, dep+"/") }) {
			return "format stands on the standard library and " + strings.Join(formatDeps, ", ")
		}
		return ""
	}
	me, other := part(p.path, 1), part(own, 1)
	if strings.HasPrefix(own, "format/") && (other == me || slices.Contains(formats[me], other)) {
		return ""
	}
	return fmt.Sprintf("format/%s may use of ours: %v", me, formats[me])
}

func allowedKit(p source, imported, own string, ours bool) string {
	me := part(p.path, 1)
	downwards, known := kit[me]
	if !known {
		return "internal holds " + fmt.Sprint(len(kit)) + " nouns, and this is none of them"
	}
	if !ours {
		if strings.HasPrefix(imported, "ceralacca.dev/") && slices.Contains([]string{"fault", "telemetry", "auth", "blob", "devenv"}, me) {
			return "it needs no contract and no schema"
		}
		return ""
	}
	other := part(own, 1)
	if strings.HasPrefix(own, "internal/") && (other == me || slices.Contains(downwards, other)) {
		return ""
	}
	return fmt.Sprintf("internal/%s may use of ours: %v", me, downwards)
}

func allowedService(room, own string, ours bool) string {
	if !ours {
		return ""
	}
	top := part(own, 0)
	switch {
	case top == room, top == "format", top == "internal" && part(own, 1) != "devenv":
		return ""
	case slices.Contains(services, top):
		return "services meet in events and gRPC only"
	}
	return "a service may use proto, format/* and internal/* only"
}

func part(p string, i int) string {
	parts := strings.Split(p, "/")
	if i >= len(parts) {
		return ""
	}
	return parts[i]
}

// TestImports: who may import whom (ARCHITECTURE.md).
func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		for imported, file := range p.imports {
			if why := allowed(p, imported); why != "" {
				t.Errorf("%s imports %s: %s", file, imported, why)
			}
		}
	}
}

// TestImportRulesBite: the rules above refuse what they are there to refuse.
func TestImportRulesBite(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"invoice", module + "/signer"},
		{"invoice", module + "/sandbox"},
		{"invoice", module + "/internal/devenv/postgres"},
		{"invoice", module + "/internal/pg/pgtest"},
		{"console", module + "/internal/pg"},
		{"console", module + "/invoice"},
		{"sandbox/sdi", module + "/internal/fault"},
		{"sandbox/sdi", "ceralacca.dev/proto/gen/ceralacca/sdi/v1"},
		{"format/sdi", module + "/format/cms"},
		{"format/cms", module + "/internal/fault"},
		{"format/cms", "google.golang.org/protobuf/proto"},
		{"internal/fault", module + "/internal/telemetry"},
		{"internal/fault", "ceralacca.dev/proto/catalog"},
		{"internal/auth", module + "/internal/pg"},
		{"internal/util", "fmt"},
	} {
		if allowed(source{path: c.from}, c.to) == "" {
			t.Errorf("%s may import %s", c.from, c.to)
		}
	}
	for _, c := range []struct{ from, to string }{
		{"invoice", module + "/internal/run"},
		{"invoice", module + "/invoice/internal/db"},
		{"format/cades", module + "/format/tsp"},
		{"format/cms", "golang.org/x/crypto/cryptobyte"},
		{"internal/run", module + "/internal/bus"},
		{"sandbox/sdi", module + "/format/sdi"},
	} {
		if why := allowed(source{path: c.from}, c.to); why != "" {
			t.Errorf("%s may not import %s: %s", c.from, c.to, why)
		}
	}
}

// linked lists every package that a program is made of.
func linked(t *testing.T, program string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath", program)
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		t.Fatalf("go list -deps %s: %v", program, err)
	}
	var paths []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct{ ImportPath string }
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p.ImportPath)
	}
	if len(paths) < 100 {
		t.Fatalf("%s is made of %d packages only: this test looks at nothing", program, len(paths))
	}
	return paths
}

// TestProductionLinksNoToys: ceralaccad holds neither the simulators nor what
// downloads and starts servers for development, nor anything for tests.
func TestProductionLinksNoToys(t *testing.T) {
	for _, p := range linked(t, "./cmd/ceralaccad") {
		own := strings.TrimPrefix(p, module+"/")
		if part(own, 0) == "sandbox" || strings.HasPrefix(own, "internal/devenv") || slices.Contains(testKit, own) {
			t.Errorf("cmd/ceralaccad links %s", p)
		}
	}
}

// TestNames: packages are nouns with one job.
func TestNames(t *testing.T) {
	forbidden := []string{"util", "utils", "common", "shared", "helper", "helpers", "base", "core", "types", "models", "manager", "impl"}
	lower := regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	for _, p := range packages(t) {
		if slices.Contains(forbidden, p.name) || slices.Contains(forbidden, path.Base(p.path)) {
			t.Errorf("%s: package %s says nothing about its job", p.path, p.name)
		}
		if !lower.MatchString(p.name) {
			t.Errorf("%s: package name %q is not one lower-case word", p.path, p.name)
		}
	}
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

const maxLines = 700

// TestSizeAndHabits: files that can be read in one sitting, no set-up behind
// the reader's back, contexts that come from the caller.
func TestSizeAndHabits(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if generated.Match(text) {
			return nil
		}
		if n := strings.Count(string(text), "\n"); n > maxLines {
			t.Errorf("%s has %d lines: split it by what happens (limit %d)", name, n, maxLines)
		}
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return habits(t, name, text)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func habits(t *testing.T, name string, text []byte) error {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, 0)
	if err != nil {
		return err
	}
	slashed := filepath.ToSlash(name)
	free := strings.HasPrefix(slashed, "cmd/") || strings.HasPrefix(slashed, "internal/run/") ||
		strings.HasPrefix(slashed, "internal/devenv/") || slices.Contains(testKit, path.Dir(slashed))
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				t.Errorf("%s: func init hides what happens: list it where it is used", files.Position(n.Pos()))
			}
		case *ast.SelectorExpr:
			// Both of Go's empty contexts are refused: they cut a call off from its caller's deadline, trace and tenant.
			if id, ok := n.X.(*ast.Ident); ok && id.Name == "context" && (n.Sel.Name == "Background" || n.Sel.Name == "TODO") && !free {
				t.Errorf("%s: context.%s: take the caller's context", files.Position(n.Pos()), n.Sel.Name)
			}
		}
		return true
	})
	return nil
}

// TestServicesKeepToTheirSchema: the SQL of a service names no schema, so its
// role's search_path decides, and that holds its own schema only.
func TestServicesKeepToTheirSchema(t *testing.T) {
	names := make([]string, 0, len(services))
	for _, s := range services {
		names = append(names, strings.ReplaceAll(s, "-", "_"))
	}
	foreign := regexp.MustCompile(`(?i)\b(from|join|into|update|table|references|on)\s+"?(` + strings.Join(names, "|") + `)"?\.`)
	looked := 0
	for _, root := range []string{".", "../migrations"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(name) != ".sql" {
				return err
			}
			looked++
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if m := foreign.Find(text); m != nil {
				t.Errorf("%s: %q names a schema", name, m)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if looked == 0 {
		t.Fatal("no SQL found: this test looks at nothing")
	}
}
