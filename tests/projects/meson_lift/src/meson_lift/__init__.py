from meson_lift._lift import lift
