package run

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/riverqueue/river"
	"google.golang.org/grpc"

	"ceralacca.dev/services/internal/pg"
)

// errOnlyConfig ends Start of a target that is asked for its configuration only.
var errOnlyConfig = errors.New("run: only the configuration was wanted")

// readConfig lets a target decode its section and nothing else: Start calls
// Host.Config first and returns its error, which here is never nil.
func readConfig(ctx context.Context, t Target, config func(dst any) error) (err error) {
	h := &Host{
		Name: t.Name, section: t.Name, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		HTTP: http.NewServeMux(), Admin: http.NewServeMux(),
		breakers: map[string]*Breaker{}, conns: map[string]*grpc.ClientConn{},
		Jobs: &Jobs{workers: river.NewWorkers(), queues: map[string]river.QueueConfig{}},
		only: config,
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("run: target %s goes on after Host.Config failed: return its error at once (%v)", t.Name, p)
		}
	}()
	err = t.Start(ctx, h)
	if errors.Is(err, errOnlyConfig) {
		return nil
	}
	return err
}

// decodeAll decodes the sections of all targets.
func (f *File) decodeAll(ctx context.Context, targets []Target) error {
	var errs []error
	for _, t := range targets {
		errs = append(errs, readConfig(ctx, t, func(dst any) error {
			if err := f.Section(t.Name, dst); err != nil {
				return err
			}
			return errOnlyConfig
		}))
	}
	return errors.Join(errs...)
}

// Check looks for everything that can be known to be wrong before starting:
// wrong sections of any target, files that cannot be read, certificates that do
// not fit their key, addresses and URLs that are none. Nothing is contacted.
func (f *File) Check(ctx context.Context, targets []Target) error {
	return f.check(ctx, targets, func(string) bool { return true })
}

// CheckServe is Check for a process of these targets: what it does not use (the password for migrations, a page
// that is not served) may be kept from it.
func (f *File) CheckServe(ctx context.Context, targets []Target) error {
	names := namesOf(targets)
	return f.check(ctx, targets, func(path string) bool {
		switch {
		case strings.HasPrefix(path, "database.admin_"):
			return f.Database.MigrateAtStart
		case strings.HasPrefix(path, "database.targets."):
			rest := strings.TrimPrefix(path, "database.targets.")
			return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(rest, name+".") })
		case strings.HasPrefix(path, "http."):
			return f.HTTP.Listen != ""
		case strings.Contains(path, ".vault.") && !strings.HasSuffix(path, "ca_file"):
			return false // read at each login: they may come after the process
		}
		return true
	})
}

func (f *File) check(ctx context.Context, targets []Target, uses func(path string) bool) error {
	c := checker{file: f, names: namesOf(targets), uses: uses}
	errs := []error{f.shared, f.decodeAll(ctx, targets)}
	shared := reflect.ValueOf(f.Config)
	for i := range shared.NumField() {
		if name := yamlName(shared.Type().Field(i)); !f.undone[name] {
			errs = append(errs, c.values(shared.Field(i), name))
		}
	}
	for _, name := range c.names {
		if dst, ok := f.used[name]; ok {
			errs = append(errs, c.values(reflect.ValueOf(dst).Elem(), name))
		}
	}
	if !f.undone["database"] {
		errs = append(errs, f.checkDatabases(targets))
	}
	return errors.Join(errs...)
}

// checkNATS looks at the files of the operators' own connection, ceralaccad.
func (f *File) checkNATS() error {
	c := checker{file: f, names: []string{serviceName(nil)}, uses: func(string) bool { return true }}
	return c.values(reflect.ValueOf(f.NATS), "nats")
}

// checkDatabases tells what is wrong with the databases of targets, once for all that it is true of.
func (f *File) checkDatabases(targets []Target) error {
	type mistake struct{ key, text string }
	var order []mistake
	wrong := map[mistake][]string{}
	for _, t := range targets {
		if t.Stateless {
			continue
		}
		dsn, key, err := f.Database.dsn(t.Name)
		if err == nil {
			err = pg.CheckURL(dsn)
		}
		var unread *fs.PathError
		if err == nil || errors.As(err, &unread) && !strings.HasSuffix(key, "url") {
			continue // a file that cannot be read is told with its own key
		}
		m := mistake{key, err.Error()}
		if wrong[m] == nil {
			order = append(order, m)
		}
		wrong[m] = append(wrong[m], t.Name)
	}
	var errs []error
	for _, m := range order {
		errs = append(errs, f.locate("", BadField(m.key, "%s (for %s)", m.text, strings.Join(wrong[m], ", "))))
	}
	return errors.Join(errs...)
}

// checker applies what the names of keys promise: *_file is a readable file, a cert_file fits its key_file, a ca_file
// holds a certificate, listen is an address, *url a URL.
type checker struct {
	file  *File
	names []string // of the targets: {target} stands for each
	uses  func(path string) bool
}

func (c checker) values(v reflect.Value, path string) error {
	var errs []error
	for _, field := range reflect.VisibleFields(v.Type()) {
		name := yamlName(field)
		if name == "" {
			continue
		}
		at, value := path+"."+name, v.FieldByIndex(field.Index)
		switch {
		case value.Kind() == reflect.Struct:
			errs = append(errs, c.values(value, at))
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
			for i := range value.Len() {
				errs = append(errs, c.values(value.Index(i), at))
			}
		case value.Kind() == reflect.Map && value.Type().Elem().Kind() == reflect.Struct:
			for _, key := range value.MapKeys() {
				errs = append(errs, c.values(value.MapIndex(key), at+"."+key.String()))
			}
		case value.Kind() == reflect.String && value.String() != "" && c.uses(at):
			if why := c.wrongText(at, name, value.String()); why != "" {
				errs = append(errs, c.file.locate("", BadField(at, "%s", why)))
			} else if why := c.wrongPair(v, at, name, value.String()); why != "" {
				errs = append(errs, c.file.locate("", BadField(at, "%s", why)))
			}
		}
	}
	return errors.Join(errs...)
}

func (c checker) wrongText(at, key, text string) string {
	switch {
	case key == "file" || strings.HasSuffix(key, "_file"):
		return c.wrongFile(at, key, text)
	case key == "listen" || strings.HasSuffix(key, "_listen"):
		if _, _, err := net.SplitHostPort(text); err != nil {
			return fmt.Sprintf("%q is not host:port, for example 127.0.0.1:8443", text)
		}
	case at == "nats.url":
		return "" // several servers, with and without a scheme: the client says what it cannot use
	case key == "url" || strings.HasSuffix(key, "_url"):
		u, err := url.Parse(c.file.Database.fill(text, "target"))
		if err != nil || u.Scheme == "" || (u.Host == "" && u.Path == "") {
			return fmt.Sprintf("%q is not a URL", maskText(key, text))
		}
	}
	return ""
}

// paths are the files that a path with {target} stands for. To NATS a process of several targets is ceralaccad, and
// each of them itself where every target has a process of its own.
func (c checker) paths(at, path string) [][]string {
	if !strings.Contains(path, "{") {
		return [][]string{{path}}
	}
	fill := func(names ...string) []string {
		var out []string
		for _, name := range names {
			out = append(out, c.file.Database.fill(path, name))
		}
		return out
	}
	if strings.HasPrefix(at, "nats.") && len(c.names) > 1 {
		return [][]string{fill(serviceName(c.names)), fill(c.names...)}
	}
	return [][]string{fill(c.names...)}
}

// wrongFile tries to read a file, for each target when the path says {target}.
func (c checker) wrongFile(at, key, path string) string {
	const unreadable = "cannot be read: "
	var wrong []string
	for _, alternative := range c.paths(at, path) {
		wrong = nil
		for _, name := range alternative {
			if err := readable(name, key); err != nil {
				wrong = append(wrong, err.Error())
			}
		}
		if len(wrong) == 0 {
			return ""
		}
	}
	return strings.ReplaceAll(strings.Join(wrong, "; "), "; "+unreadable, "; ")
}

func readable(name, key string) error {
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder: name the file in it", name)
	}
	if err == nil && !info.Mode().IsRegular() {
		return nil // a pipe gives its content once, to the process that runs
	}
	content, err := os.ReadFile(name) //nolint:gosec // the operator names it
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot be read by user id %d, as which this program runs: %w", os.Geteuid(), err)
	case err != nil:
		return fmt.Errorf("cannot be read: %w", err)
	case len(bytes.TrimSpace(content)) == 0:
		return fmt.Errorf("%s is empty", name)
	case (key == "ca_file" || strings.HasSuffix(key, "_ca_file")) && !x509.NewCertPool().AppendCertsFromPEM(content):
		return fmt.Errorf("%s holds no certificate: it must begin with -----BEGIN CERTIFICATE-----", name)
	}
	return nil
}

// wrongPair tries a certificate with the key beside it.
func (c checker) wrongPair(v reflect.Value, at, name, certPath string) string {
	prefix, ok := strings.CutSuffix(name, "cert_file")
	if !ok {
		return ""
	}
	keyPath := ""
	for _, field := range reflect.VisibleFields(v.Type()) {
		if yamlName(field) == prefix+"key_file" && field.Type.Kind() == reflect.String {
			keyPath = v.FieldByIndex(field.Index).String()
		}
	}
	if keyPath == "" || c.wrongFile(at, prefix+"key_file", keyPath) != "" {
		return "" // what is wrong with that file is told with its own key
	}
	certs, keys := c.paths(at, certPath), c.paths(at, keyPath)
	var wrong []string
	for i := range certs {
		wrong = nil
		for j, cert := range certs[i] {
			key := keys[min(i, len(keys)-1)]
			if _, err := tls.LoadX509KeyPair(cert, key[min(j, len(key)-1)]); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s does not go with %s: %v", cert, key[min(j, len(key)-1)], err))
			}
		}
		if len(wrong) == 0 {
			return ""
		}
	}
	return strings.Join(wrong, "; ")
}

// Docs explains every key of the shared sections and of the targets: its
// comment in the source, its type and its default, as a YAML file that could
// be used.
func Docs(ctx context.Context, targets []Target) (string, error) {
	comments, err := configComments()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Configuration of ceralaccad, with defaults.\n")
	b.WriteString("# A key can be set by the environment too: CERALACCA_<SECTION>_<KEY>, for example CERALACCA_RPC_LISTEN.\n")
	b.WriteString("# {target}, {schema} and {role} stand for the name of a target, its schema and its database role.\n")
	writeDocs(&b, comments, reflect.ValueOf(DefaultConfig()), 0)
	for _, t := range targets {
		var found reflect.Value
		err := readConfig(ctx, t, func(dst any) error {
			found = reflect.ValueOf(dst).Elem()
			return errOnlyConfig
		})
		if err != nil {
			return "", err
		}
		if !found.IsValid() || found.NumField() == 0 {
			continue
		}
		b.WriteString("\n")
		comment(&b, comments[typeKey(found.Type())], 0)
		fmt.Fprintf(&b, "%s:\n", t.Name)
		writeDocs(&b, comments, found, 1)
	}
	return b.String(), nil
}

func writeDocs(b *strings.Builder, comments map[string]string, v reflect.Value, depth int) {
	pad := strings.Repeat("  ", depth)
	for _, field := range reflect.VisibleFields(v.Type()) {
		name := yamlName(field)
		if name == "" {
			continue
		}
		if depth == 0 {
			b.WriteString("\n")
		}
		comment(b, comments[typeKey(v.Type())+"."+field.Name], depth)
		value := v.FieldByIndex(field.Index)
		if value.Kind() == reflect.Struct {
			fmt.Fprintf(b, "%s%s:\n", pad, name)
			writeDocs(b, comments, value, depth+1)
			continue
		}
		fmt.Fprintf(b, "%s%s: %s\n", pad, name, defaultText(value))
		writeElement(b, comments, field.Type, depth)
	}
}

// writeElement explains the keys of what a list or map holds, as comments.
func writeElement(b *strings.Builder, comments map[string]string, t reflect.Type, depth int) {
	if (t.Kind() != reflect.Map && t.Kind() != reflect.Slice) || t.Elem().Kind() != reflect.Struct {
		return
	}
	pad := strings.Repeat("  ", depth)
	fmt.Fprintf(b, "%s# each with:\n", pad)
	inner := &strings.Builder{}
	writeDocs(inner, comments, reflect.Zero(t.Elem()), depth+1)
	for line := range strings.Lines(inner.String()) {
		b.WriteString(pad + "# " + strings.TrimPrefix(line, pad))
	}
}

func comment(b *strings.Builder, text string, depth int) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		b.WriteString(strings.TrimRight(strings.Repeat("  ", depth)+"# "+line, " \n") + "\n")
	}
}

func defaultText(v reflect.Value) string {
	if v.Kind() == reflect.Map && v.Len() == 0 {
		return "{}"
	}
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return "[]"
	}
	out, err := yaml.MarshalWithOptions(mask(v, ""), yaml.Flow(true))
	if err != nil {
		return `""`
	}
	return strings.TrimSpace(string(out))
}

// typeKey names a type as the generated comments do.
func typeKey(t reflect.Type) string {
	return strings.TrimPrefix(t.PkgPath(), modulePath) + "." + t.Name()
}

// modulePath is cut off package paths in the generated comments.
const modulePath = "ceralacca.dev/services/"
