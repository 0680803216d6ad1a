package run

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// envPrefix begins every variable that overrides a key:
// CERALACCA_<SECTION>_<KEY>, for example CERALACCA_RPC_LISTEN or
// CERALACCA_SDI_GATEWAY_ENDPOINT. Maps are written name=value,name=value and
// lists value,value.
const envPrefix = "CERALACCA_"

type environment map[string]string

func readEnvironment(environ []string) environment {
	env := environment{}
	for _, line := range environ {
		name, value, ok := strings.Cut(line, "=")
		if ok && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	return env
}

func envName(parts ...string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(strings.Join(parts, "_")))
}

// apply overrides the keys of a section. A variable of the section that is no
// key is an error: a misspelt override must not be silent.
func (env environment) apply(section string, dst any) error {
	known := map[string]bool{}
	if err := env.walk(reflect.ValueOf(dst).Elem(), section, known); err != nil {
		return err
	}
	prefix := envName(section) + "_"
	for name := range env {
		if strings.HasPrefix(name, prefix) && !known[name] {
			names := make([]string, 0, len(known))
			for k := range known {
				names = append(names, k)
			}
			slices.Sort(names)
			return fmt.Errorf("config: environment variable %s overrides no key%s", name, meant(name, names))
		}
	}
	return nil
}

func (env environment) walk(v reflect.Value, path string, known map[string]bool) error {
	for _, field := range reflect.VisibleFields(v.Type()) {
		name := yamlName(field)
		if name == "" {
			continue
		}
		at, value := path+"_"+name, v.FieldByIndex(field.Index)
		if value.Kind() == reflect.Struct {
			if err := env.walk(value, at, known); err != nil {
				return err
			}
			continue
		}
		variable := envName(at)
		known[variable] = true
		text, ok := env[variable]
		if !ok {
			continue
		}
		if err := setText(value, text); err != nil {
			return fmt.Errorf("config: environment variable %s: %w", variable, err)
		}
	}
	return nil
}

// setText parses a variable into a field.
func setText(v reflect.Value, text string) error {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 5s or 1m30s", text)
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Type() == reflect.TypeFor[[]string]():
		v.Set(reflect.ValueOf(split(text)))
	case v.Type() == reflect.TypeFor[map[string]string]():
		m := map[string]string{}
		for _, pair := range split(text) {
			name, value, ok := strings.Cut(pair, "=")
			if !ok {
				return fmt.Errorf("%q is not name=value", pair)
			}
			m[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		v.Set(reflect.ValueOf(m))
	default: // numbers, booleans and, in YAML's flow style, anything else
		if err := yaml.UnmarshalWithOptions([]byte(text), v.Addr().Interface(), yaml.Strict()); err != nil {
			return fmt.Errorf("%q cannot be read as %s", text, v.Type())
		}
	}
	return nil
}

func split(text string) []string {
	var parts []string
	for _, p := range strings.Split(text, ",") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return parts
}
