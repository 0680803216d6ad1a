package pecgateway

import (
	"sync"

	"github.com/google/uuid"
)

// stuckAt remembers, for each mailbox, at which message its connection was cut, and how often in a row.
// It is this replica's memory only: another one counts anew and comes to the same end.
type stuckAt struct {
	mu sync.Mutex
	at map[uuid.UUID]stuckMessage
}

type stuckMessage struct {
	folder        string
	validity, uid uint32
	times         int
}

func newStuckAt() *stuckAt { return &stuckAt{at: map[uuid.UUID]stuckMessage{}} }

// count remembers a cut while messages from uid on were fetched. Only one fetched alone is to blame.
func (s *stuckAt) count(box uuid.UUID, at place, uid uint32, together int) {
	if together > 1 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.at[box]
	if m.folder != at.folder || m.validity != at.validity || m.uid != uid {
		m = stuckMessage{folder: at.folder, validity: at.validity, uid: uid}
	}
	m.times++
	s.at[box] = m
}

// left says whether to go on without the message.
func (s *stuckAt) left(box uuid.UUID, at place, uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.at[box]
	return m.folder == at.folder && m.validity == at.validity && m.uid == uid && m.times >= stuckTimes
}
