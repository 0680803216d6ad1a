package fault_test

import (
	"testing"

	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
	"github.com/stretchr/testify/require"
)

func TestOrdersAreCountedAndMatched(t *testing.T) {
	var r fault.Registry
	_, ok := r.Take(fault.Event{Kinds: fault.Requests})
	require.False(t, ok)
	_, err := r.Add(client.Fault{Kind: client.FaultEI02, Count: 2, Name: "IT01234567890_00001.xml"})
	require.NoError(t, err)
	_, err = r.Add(client.Fault{Kind: client.FaultDuplicate, Type: "RC", Transmitter: "01234567890"})
	require.NoError(t, err)

	_, ok = r.Take(fault.Event{Kinds: fault.Requests, Name: "IT01234567890_00002.xml"})
	require.False(t, ok, "another file")
	for range 2 {
		f, ok := r.Take(fault.Event{Kinds: fault.Requests, Name: "it01234567890_00001.XML"})
		require.True(t, ok)
		require.Equal(t, client.FaultEI02, f.Kind)
	}
	_, ok = r.Take(fault.Event{Kinds: fault.Requests, Name: "IT01234567890_00001.xml"})
	require.False(t, ok, "spent")
	_, ok = r.Take(fault.Event{Kinds: fault.Receipts, Type: "NS", Transmitter: "01234567890"})
	require.False(t, ok, "another type")
	_, ok = r.Take(fault.Event{Kinds: fault.Receipts, Type: "RC", Transmitter: "01234567890"})
	require.True(t, ok)
	list := r.List()
	require.Len(t, list, 2)
	require.Equal(t, 2, list[0].Hits)
	r.Clear()
	require.Empty(t, r.List())
}

func TestBadOrders(t *testing.T) {
	var r fault.Registry
	for want, f := range map[string]client.Fault{
		"unknown":  {Kind: "explode"},
		"count":    {Kind: client.FaultEI02, Count: -1},
		"delay_ms": {Kind: client.FaultDelay},
		"mode":     {Kind: client.FaultLetterForged, Mode: "explode"},
	} {
		_, err := r.Add(f)
		require.ErrorContains(t, err, want)
	}
}
