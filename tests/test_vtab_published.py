"""Published VTAB-1k results."""

from bit_keras import data


def test_published_means_are_those_of_their_groups_and_tasks():
    sizes = dict.fromkeys(("natural", "specialized", "structured"), 0)
    for task in data.VTAB.values():
        sizes[task.group] += 1
    complete = [result for result in data.VTAB_PUBLISHED if result.natural is not None]
    assert len(complete) == 4
    for result in complete:
        total = sum(size * getattr(result, group) for group, size in sizes.items())
        assert abs(total / 19 - result.mean) < 0.01
    by_task = [result for result in data.VTAB_PUBLISHED if result.tasks]
    assert len(by_task) == 2
    for result in by_task:
        assert tuple(result.tasks) == tuple(data.VTAB)
        for group, size in sizes.items():
            total = sum(result.tasks[name] for name, t in data.VTAB.items() if t.group == group)
            assert abs(total / size - getattr(result, group)) < 0.01
