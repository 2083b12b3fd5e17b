"""Settings of one level, as tests like to change them, in the objects that functions take."""


def nest(flat, **kinds):
    """Settings of one level, some of them in the objects that a function takes; model is a path."""
    settings = dict(flat)
    if "model" in kinds and "model" in settings:
        settings["path"] = settings.pop("model")
    for name, kind in kinds.items():
        known = {key: settings.pop(key) for key in kind._fields if key in settings}
        settings[name] = kind(**known)
    return settings
