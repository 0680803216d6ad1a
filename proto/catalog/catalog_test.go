package catalog_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"ceralacca.dev/proto/catalog"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
)

var update = flag.Bool("update", false, "write the frozen message of an event that has none yet")

var subjectPattern = regexp.MustCompile(`^ceralacca\.[a-z]+\.[a-z_]+\.v[1-9][0-9]*$`)

func TestSubjects(t *testing.T) {
	seen := map[string]bool{}
	owners := map[string]string{}
	for _, e := range catalog.All() {
		name := string(e.Message.Descriptor().FullName())
		if !subjectPattern.MatchString(e.Subject) {
			t.Errorf("%s: subject %q is not ceralacca.<owner>.<fact>.v<n>", name, e.Subject)
		}
		if seen[e.Subject] {
			t.Errorf("%s: subject %q is used twice", name, e.Subject)
		}
		seen[e.Subject] = true
		if e.Stream != strings.ToUpper(e.Owner) {
			t.Errorf("%s: stream %q of owner %q", name, e.Stream, e.Owner)
		}
		owners[e.Stream] = e.Owner
		pkg := string(e.Message.Descriptor().ParentFile().Package())
		if pkg != "ceralacca."+e.Owner+".v1" {
			t.Errorf("%s: owner %q declares events in package %s", name, e.Owner, pkg)
		}
		got, ok := catalog.BySubject(e.Subject)
		if !ok || got.Message.Descriptor() != e.Message.Descriptor() {
			t.Errorf("BySubject(%q) does not find %s", e.Subject, name)
		}
		got, ok = catalog.ByMessage(e.Message.Descriptor().FullName())
		if !ok || got.Subject != e.Subject {
			t.Errorf("ByMessage(%s) does not find %q", name, e.Subject)
		}
	}
	if len(catalog.Streams()) != len(owners) {
		t.Errorf("%d streams, want one for each of %d owners", len(catalog.Streams()), len(owners))
	}
}

// Events carry ids, hashes and references. Bytes are allowed for digests only.
func TestEventsCarryNoDocuments(t *testing.T) {
	for _, e := range catalog.All() {
		walk(e.Message.Descriptor(), func(f protoreflect.FieldDescriptor) {
			if f.Kind() == protoreflect.BytesKind && !strings.HasSuffix(string(f.Name()), "sha256") {
				t.Errorf("%s.%s carries bytes that are not a digest", e.Message.Descriptor().FullName(), f.Name())
			}
		})
	}
}

// The list of fields that can identify a natural person is reviewed, not discovered.
func TestPersonalData(t *testing.T) {
	want := []string{
		"ceralacca.invoice.settled.v1 buyer_name",
		"ceralacca.invoice.settled.v1 buyer_tax_code",
		"ceralacca.invoice.settled.v1 buyer_vat_number",
		"ceralacca.invoice.settled.v1 seller_name",
		"ceralacca.invoice.settled.v1 seller_tax_code",
		"ceralacca.invoice.settled.v1 seller_vat_number",
		"ceralacca.pec.forward_due.v1 address",
		"ceralacca.pec.forward_due.v1 recipient",
		"ceralacca.pec.forward_due.v1 sender",
		"ceralacca.pec.forward_due.v1 title",
		"ceralacca.pec.incoming_notice_due.v1 addresses",
		"ceralacca.pec.incoming_notice_due.v1 recipient",
		"ceralacca.pec.incoming_notice_due.v1 sender",
		"ceralacca.pec.incoming_notice_due.v1 title",
		"ceralacca.pec.mailbox_day_closed.v1 mailbox_address",
		"ceralacca.pec.mailbox_degraded.v1 mailbox_address",
		"ceralacca.pec.message_handed_over.v1 mailbox_address",
		"ceralacca.pec.message_handed_over.v1 recipients",
		"ceralacca.pec.message_handed_over.v1 sender",
		"ceralacca.pec.message_handed_over.v1 title",
		"ceralacca.sign.request_participant_called.v1 email",
	}
	suspicious := regexp.MustCompile(`(^|_)(address|email|phone|tax_code|vat_number|first_name|last_name|person|buyer_name|seller_name)($|_)`)
	var got []string
	for _, e := range catalog.All() {
		walk(e.Message.Descriptor(), func(f protoreflect.FieldDescriptor) {
			marked, _ := proto.GetExtension(f.Options(), eventv1.E_Pii).(bool)
			if marked {
				got = append(got, fmt.Sprintf("%s %s", e.Subject, f.Name()))
			} else if suspicious.MatchString(string(f.Name())) {
				t.Errorf("%s %s looks like personal data and is not marked (pii)", e.Subject, f.Name())
			}
		})
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("fields marked (pii):\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// One frozen message per event version, decoded for ever: yesterday's bytes keep their meaning.
func TestWire(t *testing.T) {
	for _, e := range catalog.All() {
		path := filepath.Join("..", "testdata", "wire", e.Subject+".binpb")
		frozen, err := os.ReadFile(path)
		if os.IsNotExist(err) && *update {
			frozen, err = proto.MarshalOptions{Deterministic: true}.Marshal(sample(e.Message))
			if err == nil {
				err = os.WriteFile(path, frozen, 0o644)
			}
		}
		if err != nil {
			t.Errorf("%v (run with -update to freeze a message for a new event)", err)
			continue
		}
		got := e.Message.New().Interface()
		err = proto.Unmarshal(frozen, got)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if len(got.ProtoReflect().GetUnknown()) != 0 {
			t.Errorf("%s: fields of the frozen message are unknown today", path)
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(got)
		if err != nil || !bytes.Equal(again, frozen) {
			t.Errorf("%s: the frozen message reads back otherwise (%v)", path, err)
		}
		// Fields may be added after the freeze; each that was frozen holds its own name.
		checkSample(t, path, got.ProtoReflect())
	}
}

func walk(desc protoreflect.MessageDescriptor, visit func(protoreflect.FieldDescriptor)) {
	for i := range desc.Fields().Len() {
		field := desc.Fields().Get(i)
		visit(field)
		if field.Message() != nil && field.Message().ParentFile().Package() != "google.protobuf" {
			walk(field.Message(), visit)
		}
	}
}

// sample fills every field with a value made of the field's own name and number.
func sample(mt protoreflect.MessageType) proto.Message {
	m := mt.New()
	fill(m)
	return m.Interface()
}

func fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsList():
			list := m.Mutable(f).List()
			if f.Message() != nil {
				element := list.NewElement()
				fill(element.Message())
				list.Append(element)
				continue
			}
			list.Append(scalar(f))
		case f.Message() != nil && f.Message().FullName() == "google.protobuf.Timestamp":
			ts := m.Mutable(f).Message()
			ts.Set(ts.Descriptor().Fields().ByName("seconds"), protoreflect.ValueOfInt64(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC).Unix()))
		case f.Message() != nil:
			fill(m.Mutable(f).Message())
		default:
			m.Set(f, scalar(f))
		}
	}
}

func scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(f.Name()))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.Name()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(f.Number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(f.Number()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	default:
		panic(fmt.Sprintf("%s: no sample for kind %s", f.FullName(), f.Kind()))
	}
}

func checkSample(t *testing.T, path string, m protoreflect.Message) {
	t.Helper()
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			for i := range v.List().Len() {
				if f.Message() != nil {
					checkSample(t, path, v.List().Get(i).Message())
				}
			}
		case f.Message() != nil:
			if f.Message().ParentFile().Package() != "google.protobuf" {
				checkSample(t, path, v.Message())
			}
		default:
			if !v.Equal(scalar(f)) {
				t.Errorf("%s: %s is %v, frozen as %v: a field number was given another meaning", path, f.FullName(), v, scalar(f))
			}
		}
		return true
	})
}
