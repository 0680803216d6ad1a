package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/riverqueue/river"
	"google.golang.org/grpc"
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
	errs := []error{f.decodeAll(ctx, targets)}
	shared := reflect.ValueOf(f.Config)
	for i := range shared.NumField() {
		errs = append(errs, f.checkValues(shared.Field(i), yamlName(shared.Type().Field(i))))
	}
	for _, name := range f.targets {
		if dst, ok := f.used[name]; ok {
			errs = append(errs, f.checkValues(reflect.ValueOf(dst).Elem(), name))
		}
	}
	for _, t := range targets {
		if !t.Stateless {
			if _, _, _, err := f.Database.forTarget(t.Name); err != nil {
				errs = append(errs, f.locate("", err))
			}
		}
	}
	return errors.Join(errs...)
}

// checkValues applies what the names of keys promise: *_file is a readable
// file, listen an address, *url a URL.
func (f *File) checkValues(v reflect.Value, path string) error {
	var errs []error
	for _, field := range reflect.VisibleFields(v.Type()) {
		name := yamlName(field)
		if name == "" {
			continue
		}
		at, value := path+"."+name, v.FieldByIndex(field.Index)
		switch {
		case value.Kind() == reflect.Struct:
			errs = append(errs, f.checkValues(value, at))
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
			for i := range value.Len() {
				errs = append(errs, f.checkValues(value.Index(i), at))
			}
		case value.Kind() == reflect.Map && value.Type().Elem().Kind() == reflect.Struct:
			for _, key := range value.MapKeys() {
				errs = append(errs, f.checkValues(value.MapIndex(key), at+"."+key.String()))
			}
		case value.Kind() == reflect.String && value.String() != "":
			if why := f.wrongText(name, value.String()); why != "" {
				errs = append(errs, f.locate("", BadField(at, "%s", why)))
			}
		}
	}
	return errors.Join(errs...)
}

func (f *File) wrongText(key, text string) string {
	switch {
	case key == "file" || strings.HasSuffix(key, "_file"):
		return f.wrongFile(text)
	case key == "listen" || strings.HasSuffix(key, "_listen"):
		if _, _, err := net.SplitHostPort(text); err != nil {
			return fmt.Sprintf("%q is not host:port, for example 127.0.0.1:8443", text)
		}
	case key == "url" || strings.HasSuffix(key, "_url"):
		u, err := url.Parse(f.Database.fill(text, "target"))
		if err != nil || u.Scheme == "" || (u.Host == "" && u.Path == "") {
			return fmt.Sprintf("%q is not a URL", maskText(key, text))
		}
	}
	return ""
}

// wrongFile tries to read a file, for each target when the path says {target}.
func (f *File) wrongFile(path string) string {
	names := []string{""}
	if strings.Contains(path, "{") {
		names = f.targets
	}
	for _, name := range names {
		full := f.Database.fill(path, name)
		file, err := os.Open(full)
		if err != nil {
			return fmt.Sprintf("cannot be read: %v", err)
		}
		info, err := file.Stat()
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Sprintf("cannot be read: %v", err)
		}
		if info.IsDir() {
			return fmt.Sprintf("%s is a folder", full)
		}
	}
	return ""
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
