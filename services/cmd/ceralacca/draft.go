package main

import (
	"bytes"
	"encoding/json"

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
		return nil, usage("%s is no draft: %v; see ceralacca invoice new --help for the form", file, err)
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
