package spd

import "github.com/btns-go/btns/esp/ts"

type tree struct{ order []*Policy }

func (db *DB) index() {
	for i := range db.policies {
		db.v4.order = append(db.v4.order, &db.policies[i])
	}
	db.v6 = db.v4
}

func (t *tree) lookup(_ *DB, out bool, f ts.Flow) *Policy {
	for _, p := range t.order {
		if p.matches(out, f) {
			return p
		}
	}
	return nil
}

func (p *Policy) matches(out bool, f ts.Flow) bool {
	if out {
		return p.Sel.MatchOut(f)
	}
	return p.Sel.MatchIn(f)
}
