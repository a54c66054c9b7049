package ike

import "time"

// asked is Work that is out.
type asked struct {
	id   WorkID
	spi  bool // its answer may bring an SPI
	keep bool // outlives the child SAs and the SA's closing
	then func(now time.Time, r WorkResult)
}

// ask records that w was emitted and what follows on its answer. An answer of the
// wrong type counts as the zero R, which refuses.
func ask[R any, P interface {
	*R
	WorkResult
}](m *Machine, w Work, then func(now time.Time, r P)) {
	var none R
	_, spi := bringsSPI(P(&none))
	m.asked = append(m.asked, asked{id: w.WorkID(), spi: spi, then: func(now time.Time, r WorkResult) {
		p, ok := r.(P)
		if !ok || p == nil {
			p = new(R)
		}
		then(now, p)
	}})
	m.emit(w)
}

// bringsSPI returns the SPI that comes with a result, 0 for none, and whether results
// of its type can bring one.
func bringsSPI(r WorkResult) (spi uint32, may bool) {
	switch r := r.(type) {
	case *DecideResult:
		if r != nil && r.Refuse == 0 {
			spi = r.SPI
		}
		return spi, true
	case *RekeyResult:
		if r != nil && r.Err == nil {
			spi = r.SPI
		}
		return spi, true
	}
	return 0, false
}

func (m *Machine) workID() WorkID {
	m.lastWork++
	return m.lastWork
}

// Complete answers Work. Unknown and repeated ids are ignored.
func (m *Machine) Complete(now time.Time, id WorkID, r WorkResult) {
	m.verified = true
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
		} else if spi, _ := bringsSPI(r); spi != 0 {
			m.emit(&SPIReleased{SPI: spi}) // too late
		}
		m.pump(now)
		return
	}
}
