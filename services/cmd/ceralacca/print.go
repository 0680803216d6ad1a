package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var jsonOptions = protojson.MarshalOptions{UseProtoNames: true, Multiline: true, Indent: "  ", EmitDefaultValues: true}

// print shows a message: as JSON, or by what text writes.
func (c *cli) print(m proto.Message, text func()) error {
	if c.format == formatText {
		text()
		return nil
	}
	raw, err := jsonOptions.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", raw)
	return err
}

// printLine shows one message of a stream: JSON is one object per line then.
func (c *cli) printLine(m proto.Message, text func()) error {
	if c.format == formatText {
		text()
		return nil
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", raw)
	return err
}

// printJSON shows what is no message of the API.
func (c *cli) printJSON(v any) {
	encoder := json.NewEncoder(c.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // maps and structs of plain values
}

// table writes rows in columns; nothing but the header when there are none.
func (c *cli) table(header []string, rows [][]string) {
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
}

// fields writes name and value pairs; empty values are left out.
func (c *cli) fields(pairs ...any) {
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		value := pairs[i+1]
		if reflect.ValueOf(value).IsZero() {
			continue
		}
		fmt.Fprintf(w, "%v\t%v\n", pairs[i], value)
	}
	_ = w.Flush()
}

// when shows a time in the machine's zone; empty for none.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05.000")
}

// enum drops the prefix that proto style puts before values.
func enum(prefix string, v fmt.Stringer) string { return strings.TrimPrefix(v.String(), prefix) }

func parseTime(flag, s string) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		t, err := time.Parse(layout, s)
		if err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, usage("--%s: %q is neither a date (2027-01-31) nor a time (2027-01-31T12:00:00Z)", flag, s)
}
