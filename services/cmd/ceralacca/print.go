package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
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
func printJSON(w io.Writer, v any) {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // maps and structs of plain values
}

// columns writes rows without blanks at the ends of lines.
func columns(out io.Writer, rows [][]string) {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(out, strings.TrimRight(line, " \n"))
	}
}

// table writes rows in columns; nothing but the header when there are none.
func (c *cli) table(header []string, rows [][]string) {
	columns(c.out, append([][]string{header}, rows...))
	if c.further {
		fmt.Fprintf(c.errOut, "there are more; --limit %d shows further ones\n", c.limit*10)
	}
}

// fields writes name and value pairs; empty values are left out.
func (c *cli) fields(pairs ...any) {
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		if !reflect.ValueOf(pairs[i+1]).IsZero() {
			rows = append(rows, []string{fmt.Sprint(pairs[i]), fmt.Sprint(pairs[i+1])})
		}
	}
	columns(c.out, rows)
}

// destroyed says when something was destroyed and by which disposal; empty when it stands.
func destroyed(d *eventv1.Destruction) string {
	if d == nil {
		return ""
	}
	return when(d.GetTime()) + " by " + d.GetDisposal()
}

// when shows a time in the machine's zone; empty for none. Times that are kept to the second say no more.
func when(t *timestamppb.Timestamp) string {
	switch {
	case t == nil:
		return ""
	case t.GetNanos() == 0:
		return t.AsTime().Local().Format(time.DateTime)
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05.000")
}

// last is the id at the end of a resource name; empty for none.
func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

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

const defaultLimit = 200

// lister makes a command that lists: ls, with --limit.
func (c *cli) lister(cmd *cobra.Command) *cobra.Command {
	if cmd.Name() == "ls" { // others of its group have names of their own
		cmd.Aliases = append(cmd.Aliases, "list")
	}
	cmd.Flags().IntVar(&c.limit, "limit", defaultLimit, "how many at most")
	return cmd
}

// page is a response of a List method.
type page interface {
	proto.Message
	GetNextPageToken() string
}

// collect asks for pages until --limit or the end, and gives them as one response. Its next_page_token is
// set when there is more.
func collect[P page](c *cli, ask func(token string, size int32) (P, error)) (P, error) {
	var all P
	if c.limit < 1 {
		return all, usage("--limit is 1 or more, not %d", c.limit)
	}
	const largest = 1000 // of one page, in every List method
	all, err := ask("", int32(min(c.limit, largest)))
	if err != nil {
		return all, err
	}
	count, token := repeated(all)
	for all.GetNextPageToken() != "" && count() < c.limit {
		next, err := ask(all.GetNextPageToken(), int32(min(c.limit-count(), largest)))
		if err != nil {
			return all, err
		}
		all.ProtoReflect().Clear(token) // Merge would keep it where the last page has none
		proto.Merge(all, next)
	}
	c.further = all.GetNextPageToken() != ""
	return all, nil
}

// repeated finds the rows of a page, which are its first list, and its token.
func repeated(m proto.Message) (count func() int, token protoreflect.FieldDescriptor) {
	fields := m.ProtoReflect().Descriptor().Fields()
	var rows protoreflect.FieldDescriptor
	count = func() int { return m.ProtoReflect().Get(rows).List().Len() }
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.IsList() && rows == nil:
			rows = field
		case field.Name() == "next_page_token":
			token = field
		}
	}
	return count, token
}
