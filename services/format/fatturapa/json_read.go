package fatturapa

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// jsonValue is a value of the JSON form. Numbers are texts, as written.
type jsonValue struct {
	kind   jsonKind
	text   string
	items  []*jsonValue
	keys   []string
	values map[string]*jsonValue
}

type jsonKind uint8

const (
	jsonText jsonKind = iota
	jsonObject
	jsonArray
)

func (k jsonKind) String() string {
	return [...]string{"a text", "an object", "an array"}[k]
}

func (v *jsonValue) member(key string) *jsonValue { return v.values[key] }

// maxJSONDepth is far beyond the eight levels of an invoice.
const maxJSONDepth = 32

// readJSON reads one value and nothing after it. The standard decoder does the
// lexing; unlike its Unmarshal, keys written twice are refused.
func readJSON(data []byte) (*jsonValue, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := readJSONValue(dec, "$", 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("fatturapa: there is something after the JSON value, at byte %d", dec.InputOffset())
	}
	return v, nil
}

func readJSONValue(dec *json.Decoder, path string, depth int) (*jsonValue, error) {
	tok, err := dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("fatturapa: JSON at byte %d: %w", dec.InputOffset(), err)
	}
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("fatturapa: JSON is nested more than %d deep at %s", maxJSONDepth, clip(path))
	}
	switch tok := tok.(type) {
	case string:
		return &jsonValue{text: tok}, nil
	case json.Number:
		return &jsonValue{text: tok.String()}, nil
	case json.Delim:
		if tok == '[' {
			return readJSONArray(dec, path, depth)
		}
		return readJSONObject(dec, path, depth)
	}
	return nil, fmt.Errorf("fatturapa: %s is %v; leave out what has no value", clip(path), tok)
}

func readJSONArray(dec *json.Decoder, path string, depth int) (*jsonValue, error) {
	v := &jsonValue{kind: jsonArray}
	for dec.More() {
		item, err := readJSONValue(dec, path, depth+1)
		if err != nil {
			return nil, err
		}
		if item.kind == jsonArray {
			return nil, fmt.Errorf("fatturapa: %s holds an array inside an array", clip(path))
		}
		v.items = append(v.items, item)
	}
	return v, endJSON(dec)
}

func readJSONObject(dec *json.Decoder, path string, depth int) (*jsonValue, error) {
	v := &jsonValue{kind: jsonObject, values: map[string]*jsonValue{}}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("fatturapa: JSON at byte %d: %w", dec.InputOffset(), err)
		}
		key, ok := tok.(string)
		if !ok {
			return nil, fmt.Errorf("fatturapa: JSON at byte %d: a key is not a text", dec.InputOffset())
		}
		if v.values[key] != nil {
			return nil, fmt.Errorf("fatturapa: %s.%s is written twice", clip(path), clip(key))
		}
		if v.values[key], err = readJSONValue(dec, path+"."+key, depth+1); err != nil {
			return nil, err
		}
		v.keys = append(v.keys, key)
	}
	return v, endJSON(dec)
}

func endJSON(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("fatturapa: JSON at byte %d: %w", dec.InputOffset(), err)
	}
	return nil
}
