// Package catalog is the list of all events: message, subject, stream and owner, read from the
// options in the contracts. Nothing else in the platform writes a subject down.
package catalog

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
)

// contracts are the files that declare events.
var contracts = []protoreflect.FileDescriptor{
	conservationv1.File_ceralacca_conservation_v1_events_proto,
	conservationv1.File_ceralacca_conservation_v1_copies_proto,
	invoicev1.File_ceralacca_invoice_v1_events_proto,
	notificationv1.File_ceralacca_notification_v1_events_proto,
	pecv1.File_ceralacca_pec_v1_desk_events_proto,
	pecv1.File_ceralacca_pec_v1_events_proto,
	pecv1.File_ceralacca_pec_v1_delivery_events_proto,
	sdiv1.File_ceralacca_sdi_v1_events_proto,
	sdiv1.File_ceralacca_sdi_v1_inbound_events_proto,
	sdiv1.File_ceralacca_sdi_v1_statement_proto,
	signv1.File_ceralacca_sign_v1_events_proto,
	signv1.File_ceralacca_sign_v1_holder_events_proto,
	signv1.File_ceralacca_sign_v1_request_events_proto,
	tenancyv1.File_ceralacca_tenancy_v1_events_proto,
}

// Entry is one event of the platform.
type Entry struct {
	Message protoreflect.MessageType
	// Subject is the NATS subject, ceralacca.<owner>.<fact>.v<n>.
	Subject string
	// Stream is the JetStream stream that keeps it, one per owner.
	Stream string
	// Owner is the second token of the subject.
	Owner string
}

// Stream is a JetStream stream and the subjects that it keeps.
type Stream struct {
	Name     string
	Subjects []string
}

var load = sync.OnceValue(func() []Entry {
	var entries []Entry
	for _, file := range contracts {
		for i := range file.Messages().Len() {
			entry, ok := entryOf(file.Messages().Get(i))
			if ok {
				entries = append(entries, entry)
			}
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Subject, b.Subject) })
	return entries
})

func entryOf(desc protoreflect.MessageDescriptor) (Entry, bool) {
	options, ok := proto.GetExtension(desc.Options(), eventv1.E_Event).(*eventv1.EventOptions)
	if !ok || options == nil {
		return Entry{}, false
	}
	message, err := protoregistry.GlobalTypes.FindMessageByName(desc.FullName())
	if err != nil {
		return Entry{}, false
	}
	tokens := strings.Split(options.GetSubject(), ".")
	if len(tokens) < 2 {
		return Entry{}, false
	}
	return Entry{Message: message, Subject: options.GetSubject(), Stream: options.GetStream(), Owner: tokens[1]}, true
}

// All returns every event, by subject.
func All() []Entry { return slices.Clone(load()) }

// ByMessage finds an event by the full name of its message.
func ByMessage(name protoreflect.FullName) (Entry, bool) {
	for _, entry := range load() {
		if entry.Message.Descriptor().FullName() == name {
			return entry, true
		}
	}
	return Entry{}, false
}

// BySubject finds an event by its subject.
func BySubject(subject string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(load(), subject, func(e Entry, s string) int { return cmp.Compare(e.Subject, s) })
	if !ok {
		return Entry{}, false
	}
	return load()[i], true
}

// Streams returns the streams with the subjects that each keeps, by name. A stream keeps
// all subjects of its owner, so that a new event needs no change of the stream.
func Streams() []Stream {
	subjects := map[string]string{}
	for _, entry := range load() {
		subjects[entry.Stream] = "ceralacca." + entry.Owner + ".>"
	}
	var streams []Stream
	for name, subject := range subjects {
		streams = append(streams, Stream{Name: name, Subjects: []string{subject}})
	}
	slices.SortFunc(streams, func(a, b Stream) int { return cmp.Compare(a.Name, b.Name) })
	return streams
}
