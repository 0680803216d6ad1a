package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

// readDraft reads the business data of an invoice from JSON, the form of ceralacca invoice new. Amounts may
// be written as numbers: their digits are taken as they stand, never through binary floating point.
func (c *cli) readDraft(file string) (*invoicev1.Draft, error) {
	raw, err := c.read(file)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var data any
	if err := decoder.Decode(&data); err != nil {
		return nil, usage("%s is no draft: %s; see ceralacca invoice new --help for the form", file, jsonInWords(raw, err))
	}
	if _, ok := data.(map[string]any); !ok {
		return nil, usage("%s is no draft: the file has to hold an object, { ... }; see ceralacca invoice new --help for the form", file)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, usage("%s is no draft: something follows it; give one draft a file", file)
	}
	draft := &invoicev1.Draft{}
	quoteNumbers(data, draft.ProtoReflect().Descriptor())
	raw, err = json.Marshal(data)
	if err != nil {
		return nil, usage("%s is no draft: %v", file, err)
	}
	if err := protojson.Unmarshal(raw, draft); err != nil {
		return nil, usage("%s is no draft: %s; see ceralacca invoice new --help for the form", file, plainError(err))
	}
	return draft, nil
}

// jsonInWords says where a file stops being the JSON that is wanted, and why.
func jsonInWords(raw []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return "the file is empty"
	case errors.As(err, &syntax):
		return fmt.Sprintf("no JSON from line %d on: %s", lineAt(raw, syntax.Offset), syntax.Error())
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Sprintf("the file has to hold an object, { ... }, and holds: %s", kind.Value)
	case errors.As(err, &kind):
		return fmt.Sprintf("line %d: %s cannot be a %s", lineAt(raw, kind.Offset), kind.Field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON ends in the middle: the file is cut off"
	}
	_, said, found := strings.Cut(err.Error(), "json: ")
	if !found {
		return err.Error()
	}
	return said
}

func lineAt(raw []byte, offset int64) int {
	return 1 + bytes.Count(raw[:min(int(offset), len(raw))], []byte("\n"))
}

// quoteNumbers turns numbers into text where the message has text.
func quoteNumbers(data any, message protoreflect.MessageDescriptor) {
	object, ok := data.(map[string]any)
	if !ok {
		return
	}
	for key, value := range object {
		field := message.Fields().ByJSONName(key)
		if field == nil {
			field = message.Fields().ByName(protoreflect.Name(key))
		}
		if field == nil {
			continue // protojson says so
		}
		if number, ok := value.(json.Number); ok && field.Kind() == protoreflect.StringKind {
			object[key] = number.String()
		}
		if field.Kind() != protoreflect.MessageKind {
			continue
		}
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, one := range list {
			quoteNumbers(one, field.Message())
		}
	}
}
