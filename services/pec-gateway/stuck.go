package pecgateway

import (
	"sync"

	"github.com/google/uuid"
)

// stuckTimes: a message that cuts the connection, or is refused, so often in a row is left behind, and told.
const stuckTimes = 3

// stuckAt remembers, for each mailbox, at which message its reading failed, and how often in a row.
// It is this replica's memory only: another one counts anew and comes to the same end.
type stuckAt struct {
	mu sync.Mutex
	at map[uuid.UUID]stuckMessage
}

type stuckMessage struct {
	unfetchedKey
	times int
}

func newStuckAt() *stuckAt { return &stuckAt{at: map[uuid.UUID]stuckMessage{}} }

// count remembers a failure at one message that was fetched alone, and says how many there were.
func (s *stuckAt) count(box uuid.UUID, at place, uid string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := unfetchedKey{at.folder, int64(at.validity), uid}
	m := s.at[box]
	if m.unfetchedKey != key {
		m = stuckMessage{unfetchedKey: key}
	}
	m.times++
	s.at[box] = m
	return m.times
}

// left says whether to go on without the message.
func (s *stuckAt) left(box uuid.UUID, at place, uid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.at[box]
	return m.unfetchedKey == unfetchedKey{at.folder, int64(at.validity), uid} && m.times >= stuckTimes
}
