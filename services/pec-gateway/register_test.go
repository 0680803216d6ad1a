package pecgateway_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/blob"
)

// registerChain says what is wrong with registers of a mailbox, the oldest first, as whoever has the files can: each names the one
// before it, numbers its messages, and names no message that another one has.
func registerChain(days []string, raws [][]byte) (rows [][][]string, err error) {
	seen := map[string]bool{}
	for i, raw := range raws {
		lines, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
		if err != nil {
			return nil, err
		}
		lines = lines[1:]
		if i > 0 {
			sum := sha256.Sum256(raws[i-1])
			if len(lines) == 0 || lines[0][0] != "0" || lines[0][3] != "register" || !strings.HasSuffix(lines[0][1], "/days/"+days[i-1]) || lines[0][13] != hex.EncodeToString(sum[:]) {
				return nil, fmt.Errorf("the register of %s does not name that of %s", days[i], days[i-1])
			}
			lines = lines[1:]
		}
		for n, l := range lines {
			if l[0] != strconv.Itoa(n+1) || seen[l[1]] {
				return nil, fmt.Errorf("line %q of the register of %s", l, days[i])
			}
			seen[l[1]] = true
		}
		rows = append(rows, lines)
	}
	return rows, nil
}

// registersHold takes the registers of all closed days of a mailbox from the store: they are those that were told and are shown, name
// each other, and each message in them has the size and the SHA-256 of the bytes that the archive gives. A register that is changed
// by a byte, or left out, breaks the chain. It gives how many messages they name.
func (h *house) registersHold(box *pecv1.Mailbox) int {
	h.t.Helper()
	shown := map[string]*pecv1.PreservedDay{}
	page, err := h.desk().ListPreservedDays(h.t.Context(), &pecv1.ListPreservedDaysRequest{Parent: box.GetName()})
	require.NoError(h.t, err)
	for _, d := range page.GetDays() {
		shown[d.GetDay()] = d
	}
	closed := heard[*pecv1.MailboxDayClosed](h)
	slices.SortFunc(closed, func(a, b *pecv1.MailboxDayClosed) int { return strings.Compare(a.GetDay(), b.GetDay()) })
	var days []string
	var raws [][]byte
	for _, ev := range closed {
		ref, err := blob.ParseURI(ev.GetRegister().GetUri())
		require.NoError(h.t, err)
		raw, err := h.Host("pec-gateway").Blobs.Get(h.t.Context(), ref)
		require.NoError(h.t, err)
		sum := sha256.Sum256(raw)
		require.Equal(h.t, ev.GetRegister().GetSha256(), sum[:])
		require.Equal(h.t, shown[ev.GetDay()].GetRegisterSha256(), hex.EncodeToString(sum[:]))
		days, raws = append(days, ev.GetDay()), append(raws, raw)
	}
	rows, err := registerChain(days, raws)
	require.NoError(h.t, err)
	handed := map[string]*pecv1.MessageHandedOver{}
	for _, ev := range heard[*pecv1.MessageHandedOver](h) {
		handed[ev.GetMessage()] = ev
	}
	messages := 0
	for i, lines := range rows {
		require.EqualValues(h.t, closed[i].GetMessageCount(), len(lines))
		messages += len(lines)
		for _, l := range lines {
			raw, err := h.bytesOf(&pecv1.Message{Name: l[1]})
			require.True(h.t, errors.Is(err, io.EOF), "%v", err)
			sum := sha256.Sum256(raw)
			require.Equal(h.t, []string{strconv.Itoa(len(raw)), hex.EncodeToString(sum[:])}, l[12:], "of the bytes that the archive gives")
			require.Equal(h.t, sum[:], handed[l[1]].GetContent().GetSha256())
			require.Equal(h.t, days[i], handed[l[1]].GetDay())
		}
	}
	if last := len(raws) - 1; last > 0 {
		for i := range last {
			changed := slices.Clone(raws)
			changed[i] = append(bytes.Clone(raws[i]), ' ')
			_, err = registerChain(days, changed)
			require.Error(h.t, err, "the register of %s is another one", days[i])
		}
		for i := range last - 1 {
			_, err = registerChain(slices.Delete(slices.Clone(days), i+1, i+2), slices.Delete(slices.Clone(raws), i+1, i+2))
			require.Error(h.t, err, "the register of %s is left out", days[i+1])
		}
	}
	return messages
}
