package pec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestG11EvidenceTwice: evidence that says two things, or behind whose end another begins, is not read: the signature is about
// one of them.
func TestG11EvidenceTwice(t *testing.T) {
	one := func(inside string) string {
		return `<Evidence xmlns="http://uri.etsi.org/19522/v1#"><EvidenceIdentifier>1</EvidenceIdentifier><ERDSEventId>http://uri.etsi.org/19522/Event/ContentConsignment</ERDSEventId>` + inside + `</Evidence>`
	}
	e, err := parseEvidence([]byte(one("")))
	require.NoError(t, err)
	require.Equal(t, "ContentConsignment", e.Event)
	for _, raw := range []string{
		one("") + one(""), one(`<EvidenceIdentifier>2</EvidenceIdentifier>`), one(`<ERDSEventId>x/ContentHandover</ERDSEventId>`),
		one(`<EventTime>2024-01-01T00:00:00Z</EventTime><EventTime>2025-01-01T00:00:00Z</EventTime>`),
	} {
		_, err := parseEvidence([]byte(raw))
		require.ErrorContains(t, err, "twice", raw)
	}
}
