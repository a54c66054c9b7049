package ike

import "time"

// asked is Work that is out.
type asked struct {
	id     WorkID
	decide bool // its answer may bring an SPI
	then   func(now time.Time, r WorkResult)
}

// ask records that w was emitted and what follows on its answer. An answer of the
// wrong type counts as the zero R, which refuses.
func ask[R any, P interface {
	*R
	WorkResult
}](m *Machine, w Work, then func(now time.Time, r P)) {
	_, decide := w.(*WorkDecide)
	m.asked = append(m.asked, asked{id: w.WorkID(), decide: decide, then: func(now time.Time, r WorkResult) {
		p, ok := r.(P)
		if !ok || p == nil {
			p = new(R)
		}
		then(now, p)
	}})
	m.emit(w)
}

func (m *Machine) workID() WorkID {
	m.lastWork++
	return m.lastWork
}

// Complete answers Work. Unknown and repeated ids are ignored.
func (m *Machine) Complete(now time.Time, id WorkID, r WorkResult) {
	m.flags |= flagVerified
	defer m.caught(now)
	for i, a := range m.asked {
		if a.id != id {
			continue
		}
		m.asked = append(m.asked[:i:i], m.asked[i+1:]...)
		if len(m.asked) == 0 {
			m.asked = nil
		}
		if a.then != nil {
			a.then(now, r)
		} else if d, ok := r.(*DecideResult); ok && d != nil && d.Refuse == 0 && d.SPI != 0 {
			m.emit(&SPIReleased{SPI: d.SPI}) // too late
		}
		m.pump(now)
		return
	}
}
