package run

import (
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// masked is what is shown instead of a secret.
const masked = "***"

// secretKey names keys whose values are not shown. Secrets belong in files,
// whose paths are shown; this catches what a target keeps in clear all the same.
var secretKey = regexp.MustCompile(`(?i)(password|secret|token|private_key)$`)

// Effective is the configuration in force (defaults, file, environment) as
// YAML, secrets masked. With a target: the shared sections and its own.
func (f *File) Effective(target string) string {
	tree := yaml.MapSlice{}
	shared := reflect.ValueOf(f.Config)
	for i := range shared.NumField() {
		tree = append(tree, yaml.MapItem{Key: yamlName(shared.Type().Field(i)), Value: mask(shared.Field(i), "")})
	}
	for _, name := range f.targets {
		if dst, ok := f.used[name]; ok && (target == "" || target == name) {
			tree = append(tree, yaml.MapItem{Key: name, Value: mask(reflect.ValueOf(dst).Elem(), "")})
		}
	}
	out, err := yaml.Marshal(tree)
	if err != nil {
		return "# the configuration cannot be shown: " + err.Error() + "\n"
	}
	return string(out)
}

// mask copies a value into plain maps, without secrets.
func mask(v reflect.Value, key string) any {
	if v.CanInterface() {
		if d, ok := v.Interface().(interface{ String() string }); ok && v.Kind() == reflect.Int64 {
			return d.String() // durations, as they are written
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		out := yaml.MapSlice{}
		for _, field := range reflect.VisibleFields(v.Type()) {
			if name := yamlName(field); name != "" {
				out = append(out, yaml.MapItem{Key: name, Value: mask(v.FieldByIndex(field.Index), name)})
			}
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[k.String()] = mask(v.MapIndex(k), k.String())
		}
		return out
	case reflect.Slice, reflect.Array:
		out := []any{}
		for i := range v.Len() {
			out = append(out, mask(v.Index(i), key))
		}
		return out
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return mask(v.Elem(), key)
	case reflect.String:
		return maskText(key, v.String())
	}
	return v.Interface()
}

func maskText(key, text string) string {
	if text != "" && secretKey.MatchString(key) {
		return masked
	}
	if servers := strings.Split(text, ","); len(servers) > 1 && !slices.ContainsFunc(servers, func(one string) bool { return !strings.Contains(one, "://") }) {
		for i := range servers { // of nats.url
			servers[i] = maskText(key, strings.TrimSpace(servers[i]))
		}
		return strings.Join(servers, ",")
	}
	if strings.Contains(text, "://") {
		if u, err := url.Parse(text); err == nil && u.User != nil {
			if _, has := u.User.Password(); has {
				u.User = url.UserPassword(u.User.Username(), "xxxxx")
				return u.String()
			}
			if u.Scheme == "nats" || u.Scheme == "tls" { // to NATS that is a token
				u.User = url.User("xxxxx")
				return u.String()
			}
			return text
		}
		if at := strings.LastIndexByte(text, '@'); at > 0 && strings.Contains(text[:at], ":") && !strings.Contains(text, "{") {
			return masked // a URL that cannot be read may hold anything
		}
	} else if key == "url" && strings.Contains(text, "@") {
		return masked // of NATS, without a scheme
	}
	return text
}
