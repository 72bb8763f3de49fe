# language: en-pirate
Ahoy matey!: x
  Heave to: y
    Gangway! z
    Blimey! a
    Let go and haul b
