"""What tests share: worlds, helpers and stand-ins for what cannot be made to happen otherwise."""
